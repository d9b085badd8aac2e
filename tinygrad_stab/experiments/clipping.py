"""Steps of gradient descent to a minimum: with clipping, with momentum, with too large a step."""

from collections.abc import Callable, Sequence

import numpy as np

from ..checks import check_numbers
from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..optim import SGD, Optimizer, clip_grad_norm_
from .published import Measured, row


def descend(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    optimizer: Optimizer,
    reached: Callable[[Tensor], bool],
    *,
    clip_norm: float | None = None,
    limit: int = 1_000_000,
) -> int | None:
    """Count the steps until a point is good enough.

    Parameters
    ----------
    loss : callable
        Of ``x`` to a scalar.
    x : Tensor
        The parameter of ``optimizer``; it is moved.
    optimizer : Optimizer
    reached : callable
        Whether ``x``, with its gradient, is good enough.
    clip_norm : float, optional
        Largest norm of the gradient.
    limit : int
        Most steps.

    Returns
    -------
    int or None
        None if the limit comes first.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> x = tg.tensor(1.0, requires_grad=True)
    >>> sgd = tg.optim.SGD([x], lr=0.25)  # halves x
    >>> descend(lambda x: x * x, x, sgd, lambda x: x.data <= 1 / 8)
    3
    """
    for step in range(limit + 1):
        optimizer.zero_grad()
        loss(x).backward(retain="leaves")
        if reached(x):
            return step
        if clip_norm is not None:
            clip_grad_norm_(x, clip_norm)
        optimizer.step()
    return None


def quartic_steps(
    start: float,
    lr: float,
    clip_norm: float | None = None,
    tolerance: float = 1e-3,
    limit: int = 1_000_000,
) -> int | None:
    """Steps of gradient descent on f(x) = x⁴ until |f′(x)| ≤ ``tolerance``.

    f″ = 12x² has no bound, so a fixed lr must suit the steepest place, 1/L = 1/(12·start²), and is
    too small everywhere else. With clipping a step is at most lr·clip_norm long wherever it is, and
    lr may suit the flat end (Zhang et al. 2020, "Why gradient clipping accelerates training").

    Parameters
    ----------
    start, lr, tolerance : float
    clip_norm : float, optional
        Largest gradient.
    limit : int
        Most steps.

    Returns
    -------
    int or None
        None if the limit comes first.

    Raises
    ------
    ArgumentError
        An argument outside its range.

    Examples
    --------
    >>> quartic_steps(3.0, lr=1 / (12 * 3**2)), quartic_steps(3.0, lr=0.1, clip_norm=5.0)
    (3395, 314)
    """
    check_numbers("quartic_steps", "a finite number", lambda _: True, start=start)
    check_numbers("quartic_steps", "above 0 and finite", lambda t: t > 0, tolerance=tolerance)
    x = Tensor(start, requires_grad=True, dtype=float)
    return descend(
        lambda x: x**4,
        x,
        SGD([x], lr),
        lambda x: x.grad is not None and bool(abs(x.grad) <= tolerance),
        clip_norm=clip_norm,
        limit=limit,
    )


def quadratic_steps(
    curvatures: Sequence[float],
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    tolerance: float = 1e-6,
    limit: int = 10_000,
) -> int | None:
    """Steps on f(x) = ½ Σ h_i x_i², from x = (1, 1, …), until every |x_i| ≤ ``tolerance``.

    Parameters
    ----------
    curvatures : sequence of float
        h, above 0; κ is their largest divided by their smallest.
    lr, momentum, nesterov
        Of `tinygrad_stab.optim.SGD`.
    tolerance : float
    limit : int
        Most steps.

    Returns
    -------
    int or None
        None if the limit comes first: it diverges, or is slow.

    Raises
    ------
    ArgumentError
        A curvature that is not above 0; an lr or a momentum outside its range.

    Examples
    --------
    >>> quadratic_steps([1.0, 100.0], lr=2 / 101)
    691
    """
    h = np.asarray(curvatures, dtype=np.float64)
    if not (h.size and np.all(h > 0) and np.all(np.isfinite(h))):
        raise ArgumentError(
            f"quadratic_steps: curvatures are above 0 and finite, at least one; received "
            f"{curvatures!r:.60}"
        )
    check_numbers("quadratic_steps", "above 0 and finite", lambda t: t > 0, tolerance=tolerance)
    x = Tensor(np.ones(h.shape), requires_grad=True)
    with np.errstate(over="ignore"):  # where it diverges
        return descend(
            lambda x: 0.5 * (h * x * x).sum(),
            x,
            SGD([x], lr, momentum, nesterov=nesterov),
            lambda x: bool(np.max(np.abs(x.data)) <= tolerance),
            limit=limit,
        )


_SECTION = "5 · Exploding, and clipping"


@row(
    "clipping-speeds",
    section=_SECTION,
    claim="steps on x⁴ from x₀ = 3 and 100: gradient descent slows by x₀², clipped hardly does",
    source="Zhang et al. 2020",
    published="GD 3 395 → > 10⁶, clipped 314 → 508",
    tolerance="exact; GD from 100 is stopped (quick: at 20 000)",
)
def _speeds(quick: bool) -> Measured:
    clipped = [quartic_steps(start, 0.1, clip_norm=5.0) for start in (3, 100)]
    limit = 20_000 if quick else 1_000_000
    plain = [quartic_steps(start, 1 / (12 * start**2), limit=limit) for start in (3, 100)]
    far = f"> {limit:,}".replace(",", " ") if plain[1] is None else f"{plain[1]}"
    return Measured(
        f"GD {plain[0]} → {far}, clipped {clipped[0]} → {clipped[1]}",
        plain == [3395, None] and clipped == [314, 508],
        {"plain": plain, "clipped": clipped, "limit": limit},
    )


@row(
    "momentum-quadratic",
    section=_SECTION,
    claim="steps on a quadratic of κ = 100 to 1e-6: gradient descent, Polyak, Nesterov",
    source="theory",
    published="691, 95, 158",
    tolerance="± 1",
)
def _momentum(quick: bool) -> Measured:
    low, high = 1.0, 100.0
    root = np.sqrt(high / low)
    beta = (root - 1) / (root + 1)
    measured = {
        "gradient descent": quadratic_steps([low, high], 2 / (low + high)),
        "Polyak": quadratic_steps([low, high], 4 / (high**0.5 + low**0.5) ** 2, beta**2),
        "Nesterov": quadratic_steps([low, high], 1 / high, beta, nesterov=True),
    }
    steps = list(measured.values())
    passed = all(
        found is not None and abs(found - published) <= 1
        for found, published in zip(steps, (691, 95, 158), strict=True)
    )
    return Measured(", ".join(map(str, steps)), passed, measured)


@row(
    "largest-step-size",
    section=_SECTION,
    claim="on a quadratic of largest curvature L gradient descent converges if lr < 2/L only",
    source="theory",
    published="1.99/L converges, 2.01/L diverges",
    tolerance="exact",
)
def _largest(quick: bool) -> Measured:
    below = quadratic_steps([1.0, 100.0], 1.99 / 100)
    above = quadratic_steps([1.0, 100.0], 2.01 / 100, limit=2_000)
    return Measured(
        f"1.99/L: {below} steps, 2.01/L: {above or 'diverges'}",
        below is not None and above is None,
        {"below": below, "above": above},
    )
