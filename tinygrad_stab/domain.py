"""Where an operation is defined, where it has a kink, and how to call it: data for its record.

Tests, gradient checks and documentation draw their arguments from here.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Interval(NamedTuple):
    """Real numbers between two bounds.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.domain.Interval(2.0, 3.0).draw(np.random.default_rng(0), (2,))
    array([2.63696169, 2.26978671])
    """

    low: float
    high: float

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """An array of the given shape, uniform on the interval."""
        return np.asarray(rng.uniform(self.low, self.high, shape))


class Integers(NamedTuple):
    """Integers ``low <= n < high``: class labels and conditions, which have no gradient.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.domain.Integers(0, 10).draw(np.random.default_rng(0), (3,))
    array([8, 6, 5])
    """

    low: int
    high: int

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """An array of the given shape, uniform on the integers."""
        return np.asarray(rng.integers(self.low, self.high, shape))


class PositiveDefinite(NamedTuple):
    """Well-conditioned matrices x = a aᵀ/n + ½ along the last two axes.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> x = tg.domain.PositiveDefinite().draw(np.random.default_rng(0), (3, 3))
    >>> bool(np.linalg.eigvalsh(x).min() > 0.5)
    True
    """

    def draw(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        """A stack of matrices; the last two lengths of the shape are equal."""
        a = rng.normal(size=shape)
        return np.asarray(a @ a.mT / max(shape[-1], 1) + 0.5 * np.eye(shape[-1]))


Domain = Interval | Integers | PositiveDefinite
REALS = Interval(-3.0, 3.0)
POSITIVE = Interval(0.2, 4.0)
PROBABILITY = Interval(0.0, 1.0)
CONDITION = Integers(0, 2)
POSITIVE_DEFINITE = PositiveDefinite()


class Kink(NamedTuple):
    """Where a derivative does not exist (or is not finite), and the value that is taken there."""

    where: Callable[..., Any]  # forward's arguments -> 0 exactly there: its zeros are the kinks
    convention: str  # in words, such as "relu′(0) = 0"
    at: tuple[Any, ...]  # an example: arguments on the kink ...
    gradient: tuple[Any, ...]  # ... and the gradient that the convention gives to each of them


class Case(NamedTuple):
    """One way to call a primitive: the shapes of its arguments, its parameters."""

    shapes: tuple[Shape, ...]
    params: dict[str, Any]
    domain: tuple[Domain, ...] | None  # None: that of the primitive's record


def case(*shapes: Shape, domain: Sequence[Domain] | None = None, **params: Any) -> Case:
    """A call with one array of each of these shapes, and these parameters.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.domain.case((3, 4), axis=0).params
    {'axis': 0}
    """
    return Case(shapes, params, None if domain is None else tuple(domain))


def elementwise_cases(arity: int) -> tuple[Case, ...]:
    """Calls of an elementwise primitive: equal shapes, none, empty ones, and broadcasting."""
    if arity == 1:
        return case((3, 4)), case(()), case((0, 2))
    mixed, scalar, empty = [(3, 1), (4,), (2, 1, 4)], [(), (2, 3)], [(1,), (0,)]
    return (
        case(*[(3, 4)] * arity),
        case(*[()] * arity),
        case(*[mixed[i % 3] for i in range(arity)]),
        case(*[scalar[i % 2] for i in range(arity)]),
        case(*[empty[i % 2] for i in range(arity)]),
    )


def sample(
    case: Case,
    domain: Sequence[Domain],
    kinks: Sequence[Kink],
    rng: np.random.Generator,
    margin: float = 0.05,
) -> list[np.ndarray]:
    """Random arguments for a case, at least ``margin`` away from every kink.

    Raises
    ------
    ValueError
        Ten thousand draws all fell on a kink: the domain is too narrow for the margin.
    """
    for _ in range(10_000):
        # Of optional arguments a case may leave out the last.
        drawn_from = (case.domain or domain)[: len(case.shapes)]
        args = [d.draw(rng, shape) for d, shape in zip(drawn_from, case.shapes, strict=True)]
        gaps = [np.abs(kink.where(*args, **case.params)) for kink in kinks]
        if all(np.min(gap, initial=np.inf) >= margin for gap in gaps):
            return args
    raise ValueError(f"sample: needs arguments {margin} off the kinks; {domain} has none")
