"""Gradient checks of a primitive, from what its own record says of it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..core.primitive import Primitive
from ..domain import Case, Interval
from ..errors import ArgumentError, VacuousCheckError
from .gradcheck import check_gradients
from .report import GradientReport


class Call(NamedTuple):
    """Arguments for a primitive, and which of them it can be differentiated in."""

    args: list[ndarray]
    params: dict[str, Any]
    free: list[int]

    def check(self, primitive: Primitive, **options: Any) -> GradientReport:
        """`check_gradients` of a primitive for these arguments."""

        def f(*args: Any) -> Any:
            return primitive(*args, **self.params)

        f.__name__ = primitive.name
        # What it calls its arguments, which cannot be read off *args.
        f.__dict__["arg_names"] = () if primitive.variadic else primitive.arg_names
        return check_gradients(f, *self.args, argnums=self.free, allow_constant=True, **options)


def calls(primitive: Primitive, draws: int = 3, seed: int = 0) -> Iterator[Call]:
    """Draws of each of a record's cases, off its kinks; those with no elements are left out.

    In every third draw some of the numbers are zero, or nearly: rules like to branch there.

    Parameters
    ----------
    primitive : Primitive
    draws : int
        Of each case.
    seed : int

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> [call.args[0].shape for call in tg.testing.records.calls(tg.exp, draws=1)]
    [(3, 4), ()]
    """
    for k in range(draws):
        for case in primitive.cases:
            rng = np.random.default_rng([seed, k])
            args = primitive.sample(case, rng)
            rules = primitive.rules_of_each(len(args)) if primitive.rules else [None] * len(args)
            free = [i for i, a in enumerate(args) if a.size and a.dtype.kind == "f" and rules[i]]
            if k % 3 == 2:
                args = _near_zero(primitive, case, args, rng)
            if free and np.size(primitive(*args, **case.params)):
                yield Call(args, case.params, free)


def _near_zero(
    primitive: Primitive, case: Case, args: list[ndarray], rng: np.random.Generator
) -> list[ndarray]:
    """The same with some zeros and near-zeros, unless there is a kink."""
    domains: Any = case.domain or primitive.domain
    moved = [a.copy() for a in args]
    for a, domain in zip(moved, domains * (len(args) if primitive.variadic else 1), strict=False):
        if isinstance(domain, Interval) and domain.low <= -1e-3 and domain.high >= 1e-3:
            some = rng.random(a.shape) < 0.4
            a[some] = rng.choice([0.0, 1e-3, -1e-3], int(np.sum(some)))
    gaps = [kink.where(*moved, **case.params) for kink in primitive.kinks]
    on_kink = any(np.min(np.abs(gap), initial=1) < 1e-2 for gap in gaps)
    return args if on_kink else moved


def check_primitive(
    primitive: Primitive, draws: int = 3, seed: int = 0, **options: Any
) -> list[GradientReport]:
    """Check the rules of a record, also of your own, on its domain and cases.

    Parameters
    ----------
    primitive : Primitive
    draws : int
        Of each case.
    seed : int
        Of the draws.
    **options
        For `check_gradients`, such as ``order=2``.

    Returns
    -------
    list of GradientReport
        One a draw.

    Raises
    ------
    GradientCheckError
        A rule is wrong.
    ArgumentError
        What was given is no record.
    VacuousCheckError
        The record has no rules, or no case with elements.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> square = tg.primitive("my_square", np.square, lambda g, out, x: g * 2 * x, replace=True)
    >>> all(report.passed for report in tg.testing.check_primitive(square))
    True
    """
    if not isinstance(primitive, Primitive) or draws < 1:
        raise ArgumentError(
            f"check_primitive: takes a record, made by tg.primitive, and draws ≥ 1; received "
            f"{primitive!r:.60}, draws={draws}. Use check_gradients for a plain function"
        )
    reports = [
        call.check(primitive, seed=seed, **options) for call in calls(primitive, draws, seed)
    ]
    if not reports:
        raise VacuousCheckError(
            f"check_primitive: a record needs rules, and a case with elements; {primitive.name} "
            f"has none. Give it rules, or cases"
        )
    return reports
