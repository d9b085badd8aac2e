"""From what the oracles say of a gradient to a verdict on every element of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import NotAnalyticError
from .ladder import Estimate, differences
from .neighbourhood import (
    Lines,
    Neighbourhood,
    along_blocks,
    along_elements,
    measured_noise,
    noise_in,
)
from .oracle import cauchy_riemann, imaginary
from .report import CORRECT, INCONCLUSIVE, KINK, WRONG, InputReport
from .subject import Subject

BLOCK = 16  # elements that are tried together ...
_BLOCK_RUNGS = 5  # ... by so many steps: where these do not do, each is tried alone
_EPS = float(np.finfo(float).eps)
# Round-off of the gradient itself, in units of the last place of the slopes that make it up.
_ROUNDING = 1000 * _EPS
_SHARP = 1e-9  # relative error at which differences are sharp enough


@dataclass
class Settings:
    """What `check_gradients` was asked for; see its parameters."""

    precision: float = 1e-6
    rtol: float = 0.0
    atol: float = 0.0
    sample: int | None = None
    control: float | None = 1e-4
    oracle: str = "auto"
    allow_constant: bool = False
    seed: int = 0


class Judge:
    """The oracles for one input of a subject, and what they say to a supposed gradient."""

    def __init__(self, subject: Subject, k: int, v: ndarray, settings: Settings) -> None:
        self.subject, self.k, self.v, self.settings = subject, k, v, settings
        self.near = Neighbourhood(subject.evaluate, subject.arrays, k)
        self.noise: ndarray | None = None
        self.reason = ""  # why the complex step was not used
        self.constant = False
        self.complex = settings.oracle != "differences" and subject.complex_ok[k]
        self.trusted = False

    def verdicts(self, elements: ndarray, a: ndarray, excuses: bool = True) -> InputReport:
        """Judge a supposed gradient, given at some elements.

        Without ``excuses`` it is known that rounding is not at fault.
        """
        n, precision, x = len(elements), self.settings.precision, self.near.x
        c, numeric, left, right = np.full((4, n), np.nan)
        tolerance, power = self.in_blocks(elements, a)
        verdict = np.where(power <= precision, CORRECT, INCONCLUSIVE).astype("<U12")
        open_ = np.flatnonzero(verdict == INCONCLUSIVE)
        self.constant = len(open_) == n
        doubt = np.full(n, np.inf)  # of the complex step, where there is one
        exact = self._complex_step(along_elements(x, elements[open_])) if len(open_) else None
        if exact is not None:
            c[open_], scale = exact.value, exact.scale
            allowed = self._allowed(exact.value)
            tolerance[open_] = exact.error + _ROUNDING * scale + allowed
            power[open_] = _power(tolerance[open_], exact.value)
            good = np.abs(a[open_] - exact.value) <= tolerance[open_]
            good &= np.isfinite(a[open_]) & (tolerance[open_] <= precision * scale + allowed)
            good &= tolerance[open_] - allowed <= np.where(
                power[open_] > 0, precision * np.abs(exact.value), np.inf
            )
            verdict[open_[good]] = CORRECT
            self.constant &= not np.any(exact.scale)
            open_, error = open_[~good], exact.error[~good]
            if len(open_):
                doubt[open_] = error
                if excuses:
                    doubt[open_] += 30 * self._rounding(elements[open_])
        if len(open_):
            lines = along_elements(x, elements[open_])
            seen = self._differences(lines, a[open_])
            self.constant &= not np.any(seen.scale)
            numeric[open_] = seen.value
            left[open_] = np.where(seen.kink, seen.left, np.nan)
            right[open_] = np.where(seen.kink, seen.right, np.nan)
            for i, j in enumerate(open_):
                one = seen.some(i)
                at = float(x.reshape(-1)[elements[j]])
                verdict[j], tolerance[j], power[j] = self._weigh(at, a[j], c[j], doubt[j], one)
            if excuses:
                reference = np.where(np.isnan(c), numeric, c)
                unit = np.zeros(n)
                unit[open_] = seen.unit
                self._excuse_rounding(elements, a, reference, unit, verdict)
        power[verdict == INCONCLUSIVE] = np.inf
        name, dtype = self.subject.names[self.k], self.subject.dtypes[self.k]
        return InputReport(
            name, x.shape, dtype, elements, x.reshape(-1)[elements], a,
            numeric, c, tolerance, left, right, power, verdict,
        )  # fmt: skip

    def in_blocks(self, elements: ndarray, a: ndarray) -> tuple[ndarray, ndarray]:
        """Tolerance and power where whole blocks of elements agree; infinite elsewhere.

        Along a line that moves 16 elements by random shares, the derivative is the sum of theirs,
        each times its share. If it agrees with the gradient's, so does each element, to within
        the error of the sum over its share: several errors cancel by chance alone, with a
        probability of the order of (precision·error)², for there are two such lines through each
        element. This takes an eighth of the evaluations.
        """
        n = len(elements)
        worst = np.zeros(n)
        if n < 2 * BLOCK:
            return np.full(n, np.inf), np.full(n, np.inf)
        rng = np.random.default_rng([self.settings.seed, n])
        starts = np.minimum(np.arange(0, n, BLOCK), n - BLOCK)
        for _ in range(2):
            places = rng.permutation(n)[starts[:, None] + np.arange(BLOCK)]
            lines = along_blocks(self.near.x, elements[places], rng)
            terms = lines.weights * a[places]
            wanted = np.sum(terms, axis=1)
            seen = self._complex_step(lines)
            if seen is None:
                seen = self._differences(lines, wanted, rungs=_BLOCK_RUNGS)
            tolerance = 3 * seen.error + _ROUNDING * np.sum(np.abs(terms), axis=1) + seen.hidden
            agree = ~seen.kink & (np.abs(seen.value - wanted) <= tolerance)
            tolerance = np.where(agree, tolerance, np.inf)
            np.maximum.at(worst, places, tolerance[:, None] / np.abs(lines.weights))
        return worst, np.where(a != 0, worst / np.abs(a), np.inf)

    def _allowed(self, reference: Any) -> Any:
        return self.settings.atol + self.settings.rtol * np.abs(reference)

    def _complex_step(self, lines: Lines) -> Estimate | None:
        """The complex step, unless the function turns out not to be analytic."""
        if not self.complex:
            return None
        try:
            exact = imaginary(self.near, self.v, lines)
            # The last block may share elements with the one before it.
            own = lines.some(slice(len(np.unique(lines.elements)) // lines.elements.shape[1]))
            if not self.trusted and not cauchy_riemann(
                self.near, self.v, own, exact.value[: len(own.size)]
            ):
                raise NotAnalyticError(
                    "complex step: differences give another derivative; f is not analytic here"
                )
        except NotAnalyticError as error:
            if self.settings.oracle == "complex":
                raise
            why = str(error).removeprefix("complex step: ").partition(". Use")[0]
            self.complex, self.reason = False, f"differences only, no complex step: {why}"
            return None
        self.trusted = True
        return exact

    def _differences(self, lines: Lines, expected: ndarray, **rungs: int) -> Estimate:
        if self.noise is None:
            self.noise = measured_noise(self.subject.evaluate, self.subject.arrays)
        precision = min(_SHARP, self.settings.precision / 4)
        return differences(self.near, self.v, lines, expected, self.noise, precision, **rungs)

    def _weigh(
        self, x: float, a: float, c: float, doubt: float, seen: Any
    ) -> tuple[str, float, float]:
        """Verdict, tolerance and power at an element, by differences and complex step ± doubt."""
        precision = self.settings.precision
        n, scale, hidden, tolerance = seen.value, seen.scale, seen.hidden, np.inf
        if np.isfinite(seen.error):
            tolerance = 3 * seen.error + _ROUNDING * scale + hidden + self._allowed(n)
        knows = np.isfinite(doubt) and np.isfinite(c)
        if seen.kink and not knows:
            low, high = sorted((seen.left, seen.right))
            steepest = max(-low, high)
            slack = 1e-6 * steepest + 3 * seen.side + self._allowed(steepest)
            if not np.isfinite(slack):
                return INCONCLUSIVE, slack, np.inf
            return (KINK if low - slack <= a <= high + slack else WRONG), slack, np.inf
        if knows and (seen.kink or not np.abs(c - n) > tolerance + doubt):
            # Differences do not contradict the complex step, which then knows better.
            c_tolerance = doubt + _ROUNDING * np.abs(c) + self._allowed(c)
            if not tolerance <= c_tolerance:
                n, scale, tolerance, hidden = c, np.abs(c), c_tolerance, 0.0
        if not np.isfinite(tolerance) or (
            not self.near.finite and (not seen.scale or not np.isfinite(a))
        ):
            return INCONCLUSIVE, tolerance, np.inf  # it may act on an output that overflowed
        allowed, power = self._allowed(n), _power(tolerance, n)
        # Where nothing moved, zero is right; anything else may or may not be.
        sharp = tolerance <= precision * scale + allowed if scale else a == 0
        sharp = sharp and (not power or tolerance - allowed <= precision * np.abs(n))
        # At a stationary point the slopes nearby say how exact a zero is.
        sharp = sharp or (a == 0 and tolerance <= precision * seen.steepest)
        off = np.abs(a - n)
        if off <= tolerance:
            return (CORRECT if sharp else INCONCLUSIVE), tolerance, power
        blunt = tolerance - allowed > 0.1 * scale
        if (scale and blunt) or off <= 3 * hidden or (not sharp and not np.isfinite(a)):
            return INCONCLUSIVE, tolerance, power
        if not knows:
            low, high = sorted((seen.left, seen.right))
            if high - low > 4 * seen.side and low - seen.side <= a <= high + seen.side:
                return KINK, tolerance, power  # one so small that it is only seen when looked for
            # Both steps may have crossed a kink of the second derivative at 0, with x beside it;
            # the side that did not is right then.
            sides = np.minimum(np.abs(a - seen.left), np.abs(a - seen.right))
            if x and seen.step > np.abs(x) / 2 and sides <= 3 * seen.side:
                return INCONCLUSIVE, tolerance, power
        return WRONG, tolerance, power

    def _rounding(self, elements: ndarray) -> ndarray:
        """How far rounding alone sets complex step and gradient apart.

        Their difference at seven points nearby: what varies smoothly is a mistake, what does not
        is noise.
        """
        noise = np.zeros(len(elements))
        for grain, order in ((2.0**-20, 3), (2.0**-12, 4), (2.0**-8, 5)):
            exact, apart = [], []
            for i in range(7):
                arrays = [a * (1 + i * grain) for a in self.subject.arrays]
                near = Neighbourhood(self.subject.evaluate, arrays, self.k)
                try:
                    c = imaginary(near, self.v, along_elements(near.x, elements)).value
                except NotAnalyticError:  # a kink is too near to know
                    return np.full(len(elements), np.inf)
                exact.append(c)
                apart.append(self._gradient(arrays, elements) - c)
            # A grain on which the derivative itself is not smooth would take a mistake for noise.
            smooth = noise_in(np.asarray(exact), order) <= 1e-3 * np.abs(exact[0])
            own = noise_in(np.asarray(apart), order)
            noise = np.where(smooth | (grain < 1e-5), np.fmax(noise, own), noise)
        return np.where(np.isfinite(noise), noise, np.inf)

    def _excuse_rounding(
        self, elements: ndarray, a: ndarray, reference: ndarray, unit: ndarray, verdict: ndarray
    ) -> None:
        """Where the gradient itself is nothing but rounding that far, it is not called wrong."""
        wrong = np.flatnonzero((verdict == WRONG) & np.isfinite(a))
        if not len(wrong):
            return
        off = np.abs(a - reference)[wrong]
        noise = np.zeros(len(wrong))
        for grain in (1.37 * 2.0**-36, 1.37 * 2.0**-32):
            table = [
                self._gradient([x * (1 + i * grain) for x in self.subject.arrays], elements[wrong])
                for i in range(7)
            ]
            noise = np.fmax(noise, noise_in(np.asarray(table)))
        # A slope in the last place of the values that it is computed from: 1 − tanh² at 18.
        size, last_place = np.abs(reference)[wrong], unit[wrong]
        saturated = (size < 100 * last_place) & (off <= 4 * last_place) & (off < size)
        verdict[wrong[(off <= 30 * noise) | saturated]] = INCONCLUSIVE

    def _gradient(self, arrays: Sequence[ndarray], elements: ndarray) -> ndarray:
        return np.ravel(self.subject.pullback(arrays)(self.v)[self.k])[elements]


def _power(tolerance: Any, reference: Any) -> Any:
    """The smallest relative error that is seen; 0 where the derivative is 0 to rounding."""
    with np.errstate(all="ignore"):
        size = np.abs(reference)
        return np.where(size > tolerance, tolerance / size, 0.0)[()]
