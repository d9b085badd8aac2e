"""`check_gradients`: is this gradient right? With an answer that cannot be had in vain."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.functional import vjp
from ..core.tensor import Tensor
from ..errors import (
    ArgumentError,
    DtypeError,
    GradientCheckError,
    PrecisionWarning,
    StabError,
    VacuousCheckError,
)
from .hints import hint
from .judge import BLOCK, Judge, Settings
from .neighbourhood import flat
from .oracle import central_differences
from .report import CORRECT, INCONCLUSIVE, WRONG, GradientReport, InputReport
from .subject import EngineFunction, Inputs, Pair, Subject

_EPS = float(np.finfo(float).eps)


def check_gradients(
    f: Any,
    *inputs: Any,
    order: int = 1,
    argnums: int | Sequence[int] | None = None,
    parameters: Sequence[Tensor] | Any = (),
    precision: float = 1e-6,
    rtol: float = 0.0,
    atol: float = 0.0,
    sample: int | None = None,
    control: float | None = 1e-4,
    oracle: str = "auto",
    allow_constant: bool = False,
    seed: int = 0,
) -> GradientReport:
    """Check a gradient against the definition of the derivative, element by element.

    The reference is the complex step where f is analytic, else central differences; where the two
    sides of an element disagree, one-sided differences. Whatever does not agree with the complex
    step is tried by differences too, before it is called wrong. Each element gets a verdict:

    - *correct*: the difference is within what the oracle's own error explains;
    - *wrong*: it is not;
    - *kink*: the function has two one-sided derivatives here, and the gradient lies between them;
    - *inconclusive*: round-off or overflow hides the derivative.

    A function whose output is not a scalar is checked through ⟨v, f⟩ for a random v.

    Parameters
    ----------
    f : callable, or pair of callables
        A function of tensors, whose gradient is what ``backward`` gives. Or ``(f, gradient)``,
        plain functions of arrays: for a scalar f ``gradient(*inputs)``; else
        ``gradient(g, *inputs)`` with g = ∂L/∂out (a tuple, if f returns one). It returns one
        array, or a tuple with one an input.
    *inputs : array_like, Tensor or anything
        Where to check. Arrays of floats, and tensors that require grad, are differentiated with
        respect to; all else is passed on as it is.
    order : int
        1, or 2 for the derivatives of the gradient as well (functions of tensors only).
    argnums : int or sequence of int, optional
        Which inputs to check. Default: all that can be.
    parameters : iterable of Tensor
        Leaves that f uses besides its inputs, such as ``model.parameters()``, to check too.
    precision : float
        The relative error that must be visible at an element; else it is inconclusive.
    rtol, atol : float
        Differences to let pass beyond the oracle's own error. By default none.
    sample : int, optional
        Check so many elements of each input, picked at random, rather than all.
    control : float or None
        Relative size of an error that is planted at the element that is seen least well, and
        that must be found, or the check fails itself. None: plant none.
    oracle : {"auto", "complex", "differences"}
        Which oracle to ask.
    allow_constant : bool
        Whether f may be constant in an input (its derivative zero everywhere near).
    seed : int
        Of v, of the sample.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientCheckError
        An AssertionError. The gradient is wrong somewhere, of a wrong shape or type, not linear
        in v, not the same when computed again; or f writes to its inputs.
    VacuousCheckError
        A GradientCheckError. The check could not have failed: nothing to differentiate, no
        elements, f constant in an input, all inconclusive, a tolerance above the gradient.
    NotAnalyticError
        ``oracle="complex"``, and f is not analytic here.

    Notes
    -----
    Costs 2 gradients and about 10 evaluations of f, and an element 1 (complex step) or 4 to 28
    (differences); stacks of elements are evaluated in one call where f allows it.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> print(tg.testing.check_gradients(lambda x: np.exp(x), np.array([-12.0, 1.0])))
    the gradient of f is right: 2 correct of 2 elements
    <BLANKLINE>
      x (2,) float64: 2 correct; an error of 2e-13 would be seen
    >>> try:
    ...     tg.testing.check_gradients((lambda x: np.sum(x**2), lambda x: x), np.array([1.0, 2.0]))
    ... except AssertionError as error:
    ...     print(str(error).splitlines()[0])
    the gradient of f is wrong at 2 of 2 elements
    """
    _refuse_options(order, oracle, precision, control, rtol, atol, sample, seed)
    if hasattr(parameters, "parameters"):
        parameters = parameters.parameters()  # of a model
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    try:
        parameters = list(dict.fromkeys(() if parameters is None else parameters))
    except TypeError as error:
        raise DtypeError(
            f"check_gradients: parameters are tensors, or a model; received {parameters!r:.60}. "
            f"Pass model.parameters()"
        ) from error
    subject: Inputs
    if isinstance(f, tuple | list):
        if len(f) != 2 or not all(map(callable, f)):
            raise DtypeError(
                f"check_gradients: a pair is (f, gradient), two functions; received {f!r:.80}"
            )
        if order == 2 or parameters:
            raise ArgumentError(
                "check_gradients: order=2 and parameters are for functions of tensors; received "
                "a pair. Check the gradient as an f of its own"
            )
        subject = Pair(f[0], f[1], inputs, argnums)
    elif callable(f):
        subject = EngineFunction(f, inputs, argnums, parameters)
    else:
        raise DtypeError(
            f"check_gradients: f is a function, or a pair (f, gradient); received {f!r:.80}. Pass "
            f"the function itself, and its inputs after it"
        )
    settings = Settings(precision, rtol, atol, sample, control, oracle, allow_constant, seed)
    if order == 2 and not subject.places:
        raise ArgumentError("check_gradients: order=2 is for inputs; received parameters alone")
    call = _call(subject, inputs, settings, order, argnums, bool(parameters))
    report = _check(subject, settings, call)
    if order == 2:
        # Derivatives of a linear function's gradient are zero, which is no error.
        plain = "auto" if oracle == "complex" else oracle
        of_second = replace(settings, allow_constant=True, oracle=plain)
        report.second = _check(_second(subject, settings), of_second, call)
    if not report.passed:
        raise GradientCheckError(str(report))
    return report


def _refuse_options(
    order: Any, oracle: Any, precision: Any, control: Any, rtol: Any, atol: Any, sample: Any,
    seed: Any,
) -> None:  # fmt: skip
    """Errors for options outside their ranges."""
    whole = {"sample": sample, "seed": seed}
    reals = {"precision": precision, "rtol": rtol, "atol": atol, "control": control}
    fine = bool(order in (1, 2)) and oracle in ("auto", "complex", "differences")
    fine = fine and all(
        v is None or (isinstance(v, int | np.integer) and v >= 0) for v in whole.values()
    )
    fine = fine and all(
        (name == "control" and v is None) or (isinstance(v, int | float | np.floating) and v >= 0)
        for name, v in reals.items()
    )
    fine = fine and 0 < precision < 1 and rtol < 1 and (control is None or control >= precision)
    if not fine:
        raise ArgumentError(
            f"check_gradients: needs order 1 or 2; oracle auto, complex or differences; 0 < "
            f"precision < 1; control ≥ precision or None; 0 ≤ rtol < 1; atol, sample, seed ≥ 0; "
            f"received order={order!r}, oracle={oracle!r}, precision={precision!r}, "
            f"control={control!r}, rtol={rtol!r}, atol={atol!r}, sample={sample!r}, seed={seed!r}"
        )


def _call(
    subject: Inputs, inputs: Sequence[Any], settings: Settings, order: int, argnums: Any,
    parameters: bool,
) -> str:  # fmt: skip
    """The call as a line of Python, if the inputs are small enough to print."""
    words = []
    for x in inputs:
        array = x.data if isinstance(x, Tensor) else x
        if isinstance(array, ndarray):
            whole = array.size <= 100
            text = repr(array.tolist()) if whole else f"<{array.shape} {array.dtype}>"
            text = f"np.array({text}{'' if array.dtype == float else f', np.{array.dtype}'})"
            array = text if whole else text[9:-1]
        else:
            array = repr(array)
        words.append(array)
    words += [f"argnums={argnums!r}"] if argnums is not None else []
    words += ["parameters=…"] if parameters else []
    words += [f"order={order}"] if order != 1 else []
    plain = Settings()
    words += [
        f"{field}={getattr(settings, field)!r}"
        for field in vars(settings)
        if field == "seed" or getattr(settings, field) != getattr(plain, field)
    ]
    f = f"({subject.name}, gradient)" if isinstance(subject, Pair) else subject.name
    return f"tg.testing.check_gradients({', '.join([f, *words])})"


def _check(subject: Subject, settings: Settings, call: str) -> GradientReport:
    """The whole check of one subject."""
    if not subject.arrays:
        raise VacuousCheckError(
            f"check_gradients: something must be differentiable; none of the inputs of "
            f"{subject.name} is an array of floats or a tensor that requires grad. Pass "
            f"np.array(…, float), or requires_grad=True"
        )
    empty = [name for name, a in zip(subject.names, subject.arrays, strict=True) if not a.size]
    if empty or settings.sample == 0:
        raise VacuousCheckError(
            f"check_gradients: there must be elements to check; "
            f"{', '.join(empty) or 'sample=0'} has none"
        )
    rng = np.random.default_rng(settings.seed)
    with np.errstate(all="ignore"):
        here = _values(subject)
        v = np.ones(1) if len(here) == 1 else rng.uniform(0.5, 1.5, len(here))
        v = np.round(v * 1024) / 1024  # exact in float16 and float32 too
        v[1::2] *= -1
        if not np.any(np.isfinite(here)):
            raise VacuousCheckError(
                f"check_gradients: the output must be finite somewhere; that of {subject.name} is "
                f"not. Choose other inputs"
            )
        v[~np.isfinite(here)] = 0
        grads = _gradients(subject, v)
        notes: list[str] = []
        inputs = []
        for k in range(len(subject.arrays)):
            size = subject.arrays[k].size
            elements = np.arange(size)
            if settings.sample is not None and settings.sample < size:
                elements = np.sort(rng.choice(size, settings.sample, replace=False))
                notes.append(f"{len(elements)} of the {size} elements of {subject.names[k]}")
            judge = Judge(subject, k, v, settings)
            one = judge.verdicts(elements, grads[k].reshape(-1)[elements])
            if judge.reason:
                notes.append(judge.reason)
            _refuse_vacuous(one, subject.name, judge.constant, settings)
            if settings.control is not None:
                note = _negative_control(judge, one, settings.control)
                notes += [note] * (bool(note) and not one.count(WRONG))
            inputs.append(one)
        report = GradientReport(subject.name, inputs, list(dict.fromkeys(notes)), call)
        if report.count(INCONCLUSIVE) == sum(len(one.verdict) for one in inputs):
            raise VacuousCheckError(
                f"check_gradients: an element at least must be conclusive; round-off or overflow "
                f"hides all derivatives of {subject.name}. Choose other inputs, or ask for less "
                f"than precision={settings.precision:g}\n{report}"
            )
        _check_low_precision(subject, v, report)
    return report


def _values(subject: Subject) -> ndarray:
    """f(x), flat, after making sure that f is a function: no writing, no chance."""
    given = [a.copy() for a in subject.arrays]
    first = flat(subject.evaluate(*given)).copy()
    for name, a, before in zip(subject.names, given, subject.arrays, strict=True):
        if not np.array_equal(a, before, equal_nan=True):
            raise GradientCheckError(
                f"check_gradients: f leaves its inputs as they are; {subject.name} wrote to "
                f"{name}. Copy before you write"
            )
    if first.dtype.kind != "f":
        raise DtypeError(
            f"check_gradients: f returns floating-point numbers; that of {subject.name} is "
            f"{first.dtype}. Is a return missing?"
        )
    if not first.size:
        raise VacuousCheckError(
            f"check_gradients: there must be an output; that of {subject.name} has no elements"
        )
    second = flat(subject.evaluate(*[a.copy() for a in subject.arrays]))
    if not np.array_equal(first, second, equal_nan=True):
        raise GradientCheckError(
            f"check_gradients: f must give the same value again; {subject.name} did not (up to "
            f"{np.max(np.abs(first - second)):.2g} apart). Fix its random numbers (a seed), or "
            f"switch dropout off"
        )
    return first


def _gradients(subject: Subject, v: ndarray) -> list[ndarray]:
    """The gradients under test, of the right shape and type, linear in v, and the same again."""
    try:
        pull = subject.pullback(subject.arrays)
        grads = [np.asarray(g) for g in pull(v)]
        again = [np.asarray(g) for g in pull(v)]
        anew = [np.asarray(g) for g in subject.pullback(subject.arrays)(v)]
        zero = [np.asarray(g) for g in pull(np.zeros_like(v))]
        double = [np.asarray(g) for g in pull(-2 * v)]
    except GradientCheckError:
        raise
    except StabError as error:
        raise GradientCheckError(
            f"check_gradients: the gradient of {subject.name} could not be computed: {error}"
        ) from error
    for name, x, g, *others in zip(
        subject.names, subject.arrays, grads, again, anew, zero, double, strict=True
    ):
        if g.shape != x.shape:
            k = subject.names.index(name)
            right = central_differences(subject.evaluate, subject.arrays, k, v).value
            guess = hint(g.astype(float), right.reshape(x.shape))
            raise GradientCheckError(
                f"check_gradients: a gradient has the shape of its input; that of "
                f"{subject.name} by {name} is {g.shape}, the input {x.shape}"
                + (f". {guess}" if guess else "")
            )
        if g.dtype != x.dtype:
            raise GradientCheckError(
                f"check_gradients: a gradient has the type of its input; that of {subject.name} "
                f"by {name} is {g.dtype}, the input {x.dtype}"
            )
        largest = np.max(np.abs(g), initial=0, where=np.isfinite(g))
        rounding = 1e-13 * largest + 8 * np.finfo(float).smallest_subnormal
        problems = {
            "is not the same when it is computed again": any(
                _differ(g, other, rounding) for other in others[:2]
            ),
            "is not zero for g = 0: it does not multiply by ∂L/∂out everywhere": _differ(
                others[2], 0 * g, 0.0
            ),
            "is not −2 times itself for −2·g: it does not multiply by ∂L/∂out everywhere": _differ(
                others[3], -2 * g, rounding
            ),
        }
        for problem, found in problems.items():
            if found:
                raise GradientCheckError(
                    f"check_gradients: a gradient is a function of its inputs, linear in "
                    f"g = ∂L/∂out; that of {subject.name} by {name} {problem}"
                )
    return grads


def _differ(a: ndarray, b: ndarray, tolerance: float) -> bool:
    """Whether gradients differ where both are finite."""
    off = np.abs(a - b)
    return bool(np.any(off[np.isfinite(off)] > tolerance))


def _refuse_vacuous(one: InputReport, function: str, constant: bool, settings: Settings) -> None:
    """Errors for a check that proves nothing about an input."""
    if constant and not settings.allow_constant and not np.any(one.analytic):
        raise VacuousCheckError(
            f"check_gradients: the output must depend on every input that is checked; near here "
            f"{function} is constant in {one.name}, and any gradient rule that gives zero would "
            f"pass. Leave it out by argnums, or pass allow_constant=True"
        )
    size = np.abs(one.reference)
    swamped = (size > 0) & (settings.atol >= size) & (one.verdict == CORRECT)
    if np.any(swamped):
        i = int(np.flatnonzero(swamped)[0])
        raise VacuousCheckError(
            f"check_gradients: a tolerance is below the gradient; atol={settings.atol:g} is above "
            f"that by {one.name}[{', '.join(map(str, one.index(i)))}], {size[i]:.3g}, so that zero "
            f"would pass. Leave atol at 0: the oracle knows its own error"
        )


def _negative_control(judge: Judge, one: InputReport, size: float) -> str:
    """Plant an error where it is seen least well, and make sure that it is found."""
    for _ in range(5):
        seen = np.flatnonzero((one.verdict == CORRECT) & (one.power > 0))
        if not len(seen):
            break
        least = int(seen[np.argmax(one.power[seen])])
        planted = one.analytic.copy()
        planted[least] *= 1 + size
        # It has to be found in both of the ways in which a real one is: among others, and alone.
        start = max(0, min(least - BLOCK, len(planted) - 2 * BLOCK))
        among = slice(start, start + 2 * BLOCK)
        _, power = judge.in_blocks(one.elements[among], planted[among])
        found = judge.verdicts(one.elements[[least]], planted[[least]], excuses=False).verdict[0]
        if power[least - start] <= judge.settings.precision:
            found = CORRECT
        if found == WRONG:
            return ""
        if found == CORRECT:
            raise VacuousCheckError(
                f"check_gradients: a planted error must be found; at {one.name}"
                f"[{', '.join(map(str, one.index(least)))}] a relative error of {size:g} was not. "
                f"Lower rtol and atol, or plant a larger one (control=…)"
            )
        # Looked at more closely, this element is beyond telling; so it was, and another is tried.
        one.verdict[least], one.power[least] = INCONCLUSIVE, np.inf
    return f"no error could be planted in {one.name}: no element is correct and not zero"


def _check_low_precision(subject: Subject, v: ndarray, report: GradientReport) -> None:
    """Of inputs that were not float64: the gradient in their own type, to their own precision.

    The rules were checked in float64, to its full power; what is left is whether they keep the
    type, and lose no more than it must.
    """
    eps = {k: float(np.finfo(dtype).eps) for k, dtype in enumerate(subject.dtypes)}
    low = [k for k in eps if eps[k] > _EPS]
    if not low or not report.passed:
        return
    own = [a.astype(t) for a, t in zip(subject.arrays, subject.dtypes, strict=True)]
    grads = subject.pullback(own)(v)
    # How far off the value itself is in this type, and how much the gradient moves when the
    # inputs move by their last place: no gradient can be better.
    exact, coarse = flat(subject.evaluate(*subject.arrays)), flat(subject.evaluate(*own))
    finite = np.isfinite(exact) & np.isfinite(coarse)
    apart = np.abs(coarse.astype(float) - exact) / np.fmax(np.abs(exact), 1e-300)
    forward = float(np.max(apart, initial=0, where=finite))
    nearby = [
        subject.pullback([a * (1 + sign * max(eps.values())) for a in subject.arrays])(v)
        for sign in (1, -1)
    ]
    for k in low:
        one, dtype, g = report.inputs[k], subject.dtypes[k], np.asarray(grads[k])
        if g.dtype != dtype:
            raise GradientCheckError(
                f"check_gradients: a gradient has the type of its input; that of {subject.name} "
                f"by {one.name} is {g.dtype}, the input {dtype}"
            )
        pick, g = one.elements, g.reshape(-1).astype(float)[one.elements]
        certain = (one.verdict == CORRECT) & np.isfinite(g)
        size = float(np.max(np.abs(one.analytic), initial=0, where=certain))
        moved = [np.max(np.abs(np.ravel(o[k])[pick] - one.analytic), initial=0, where=certain)
                 for o in nearby]  # fmt: skip
        tolerance = min(0.1, 2000 * eps[k]) + 4 * max(moved) / (size or 1) + 4 * forward
        off = np.where(certain, np.abs(g - one.analytic) / (size or 1), 0)
        if np.max(off, initial=0) > tolerance:
            i = int(np.argmax(off))
            raise GradientCheckError(
                f"check_gradients: in {dtype} a gradient agrees with that in float64 to "
                f"{tolerance:.1g} of the largest; that of {subject.name} by {one.name}"
                f"[{', '.join(map(str, one.index(i)))}] is {g[i]:.8g}, not {one.analytic[i]:.8g}"
            )
        note = (
            f"{one.name} is {dtype}: checked in float64, and the {dtype} gradient to "
            f"{tolerance:.1g} of its largest element"
        )
        report.notes.append(note)
        warnings.warn(f"check_gradients: {note}", PrecisionWarning, stacklevel=4)


def _second(subject: Inputs, settings: Settings) -> EngineFunction:
    """The gradient of a subject as a function of tensors: of its inputs, and of the cotangent."""
    outputs = subject.evaluate(*subject.arrays)
    several = outputs if isinstance(outputs, tuple | list) else (outputs,)
    rng = np.random.default_rng([settings.seed, 2])
    cotangents = [rng.uniform(0.5, 1.5, np.shape(out)) for out in several]
    count = len(subject.places)

    def gradient(*values: Any) -> tuple[Any, ...]:
        def f(*some: Any) -> Any:
            out = subject.f(*subject.filled(some))
            return tuple(out) if isinstance(out, list) else out

        _, pull = vjp(f, *values[:count])
        return pull(*values[count:])

    second = EngineFunction(gradient, [*subject.arrays[:count], *cotangents], None, [])
    second.must_be_linked = False  # a gradient may be constant
    second.complex_ok = [False] * len(second.places)  # a backward pass is of real numbers
    second.name = f"the gradient of {subject.name}"
    second.names = [*subject.names[:count], *(f"g{i}" for i in range(len(cotangents)))]
    return second
