"""The verdict: what is wrong with a network's gradients, which layers, and what usually helps.

Every judgement is a comparison of a measured number with one of `Thresholds`. The defaults were
chosen between what healthy and sick networks were measured to have: 23 kinds of healthy ones (deep
He-ReLU, Xavier and orthogonal tanh, residual, normalised, convolutional, recurrent, small) and 18
kinds of sick ones, 20 seeds each, at the start and after some steps of training on digits and
spirals. `tests/diagnostics/test_verdict.py` has all of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arrays import plain
from ..core.tensor import Tensor
from ..errors import ArgumentError, DtypeError
from ..nn.functional import cross_entropy
from ..nn.module import Module
from .finite_width import gradient_band
from .flow import GradientFlow
from .measure import LayerFlow, Record

if TYPE_CHECKING:
    from numpy import ndarray

Kind = Literal[
    "non-finite", "dead units", "saturated units", "exploding", "vanishing", "frozen layers",
    "loss plateau",
]  # fmt: skip
# Functions that are flat on both sides. Rectifiers are flat on one by design.
_BOUNDED = ("tanh", "sigmoid", "erf", "arctan")


@dataclass(frozen=True)
class Thresholds:
    """Where the verdict draws its lines; each may be set.

    Sizes of δ = ∂L/∂(pre-activation) are compared as ‖δ_l‖/‖δ_L‖, l a layer and L the last: norms,
    because a well-scaled layer keeps the norm of a gradient whatever its width, and δ rather than
    ∂L/∂W, because small gradients times large activations look healthy in ∂L/∂W. The scatter that
    finite width alone gives, ln ‖δ‖² ~ N(−β/2, β) with β = 5·Σ 1/width (`gradient_band`), comes on
    top of the thresholds for vanishing and exploding.

    Attributes
    ----------
    vanishing : float
        A gradient vanishes below this, times the lower edge of the band. Measured in units of that
        edge, healthy nets kept 0.13 and more (0.04 in the first steps of branches that begin at
        zero), sick ones at most 0.001.
    lost : float
        … and below this in any case: then narrowness is the sickness.
    exploding : float
        A gradient explodes above this, times the upper edge of the band. Measured in units of that
        edge, healthy nets stayed below 6 (8 batch-normed layers without skips), sick ones began at
        800.
    level : float
        Of the band, the share of He-ReLU nets within it.
    still : float
        A layer counts as not learning if ‖∂L/∂W‖ is less than this share of ‖W‖: a step with
        lr = 1 would then change a millionth.
    dead : float
        Share of a layer's units that no example moves. In 50 layers of ReLU all examples grow
        alike and so half of the units, up to .7 in 32, are dead in every healthy net; of sick ones
        all.
    saturated : float
        Share of an activation's elements with |φ′| below the recorder's threshold. Healthy nets
        have some per cent, sick ones 70 and more.
    frozen : float
        A layer's ‖ΔW‖/‖W‖ relative to the median layer's. Healthy nets stayed above 1/60; what
        is frozen has 0.
    update : float
        ‖ΔW‖/‖W‖ of a step. 1e-3 is the rule of thumb; above 1 a step replaces the weights.
        Layers that begin at zero are above .1 for some steps.
    flat : float
        A loss has stopped falling if it falls by less than this share of itself over the later
        half of the records, beyond twice the noise.
    fallen : float
        A loss that has come down below this share of its first value has learnt something: when
        it stops, that is convergence.
    floor : float
        A loss below this share of its first value is at its floor: gradients are small because
        there is nothing left to learn, and nothing is called vanishing.
    window : int
        So many of the latest records are judged, by their median.
    least_records : int
        So many are needed to judge the course of the loss.

    Raises
    ------
    ArgumentError
        A value outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.diagnostics.Thresholds(dead=0.5).dead
    0.5
    """

    vanishing: float = 0.01
    lost: float = 1e-6
    exploding: float = 100.0
    level: float = 0.99
    still: float = 1e-6
    dead: float = 0.9
    saturated: float = 0.5
    frozen: float = 1e-4
    update: float = 1.0
    flat: float = 0.02
    fallen: float = 0.5
    floor: float = 0.05
    window: int = 10
    least_records: int = 50

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.name in ("window", "least_records")
            number = isinstance(value, int if whole else int | float)
            most = math.inf if whole or field.name in ("exploding", "update") else 1
            if not number or isinstance(value, bool) or not 0 < value <= most or value == math.inf:
                kind = "a whole number" if whole else "a number"
                limit = "" if most == math.inf else " and at most 1"
                raise ArgumentError(
                    f"Thresholds: {field.name} is {kind} above 0{limit}; received {value!r:.60}"
                )
        if self.level == 1:
            raise ArgumentError("Thresholds: level is below 1, else the band has no end; got 1")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    kind : str
        "non-finite", "dead units", "saturated units", "exploding", "vanishing", "frozen layers" or
        "loss plateau".
    message : str
        What was found, in words.
    layers : tuple of str
        Where, from input to output; empty for a plateau.
    numbers : dict of str to float
        What was measured.
    threshold : float
        What it was compared with.
    why : str
        Why that threshold.
    advice : str
        What usually helps.
    """

    kind: Kind
    message: str
    layers: tuple[str, ...]
    numbers: dict[str, float]
    threshold: float
    why: str
    advice: str

    def __str__(self) -> str:
        return (
            f"{self.kind.upper()}: {self.message}.\n  Why this counts: {self.why}.\n"
            f"  What usually helps: {self.advice}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain strings, numbers and lists, for JSON; not finite becomes None."""
        return plain({field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class Diagnosis:
    """What was found, causes before consequences; true if nothing was.

    Attributes
    ----------
    findings : tuple of Finding
    summary : str
        How the gradient changes from the output to the input, in a line.
    """

    findings: tuple[Finding, ...]
    summary: str

    @property
    def healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of the findings, each once."""
        return tuple(dict.fromkeys(finding.kind for finding in self.findings))

    def __bool__(self) -> bool:
        return self.healthy

    def __str__(self) -> str:
        first = "Healthy: nothing was found." if self.healthy else ""
        return "\n".join(filter(None, [first, *map(str, self.findings), self.summary]))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain strings, numbers and lists, for JSON."""
        return {
            "healthy": self.healthy,
            "summary": self.summary,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def diagnose(
    subject: GradientFlow | Module,
    x: Any = None,
    y: Any = None,
    *,
    loss: Callable[[Any, Any], Tensor] = cross_entropy,
    thresholds: Thresholds = Thresholds(),
) -> Diagnosis:
    """Say what is wrong with a network's gradients.

    Parameters
    ----------
    subject : GradientFlow or Module
        What was recorded; or a model, for one forward and backward pass on ``x`` and ``y``. That
        pass leaves nothing changed: gradients, buffers and generators are put back.
    x, y : array_like or Tensor
        With a model: a batch and its targets.
    loss : callable
        With a model: ``loss(model(x), y)``.
    thresholds : Thresholds

    Returns
    -------
    Diagnosis

    Notes
    -----
    *Vanishing or converged?* At a minimum every gradient is small, but alike: the shape across
    layers is what it was at the start. So a gradient vanishes only relative to the last layer's,
    and not if the loss is at its floor. The absolute sizes (‖∂L/∂W‖ against ‖W‖) say which of the
    layers still learn. If all are tiny and the shape is flat, the summary says so.

    *Stuck or converged?* A loss that stops above half of where it began is reported as a plateau,
    one that has fallen further is not. A single pass has no course, and training that was taken up
    again began low: then that half means little.

    The output's own activation (after the last layer) is not judged: in a network that is sure of
    its answers, it is saturated by right. Layers are compared with the last of the forward pass; a
    network with several outputs is judged from its last.

    Raises
    ------
    ArgumentError
        No pass was recorded, or a model comes without data.
    DtypeError
        ``subject`` is neither a flow nor a model, ``loss`` no function, or ``thresholds`` are
        something else.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> rng, layers = np.random.default_rng(0), []
    >>> for _ in range(20):
    ...     layers += [tg.nn.Linear(16, 16, rng=rng), tg.nn.Sigmoid()]
    >>> x = rng.normal(size=(32, 16))
    >>> net = tg.nn.Sequential(*layers, tg.nn.Linear(16, 3, rng=rng))
    >>> found = tg.diagnostics.diagnose(net, x, np.arange(32) % 3)
    >>> found.healthy, found.kinds, found.findings[0].layers[:2]
    (False, ('vanishing',), ('0', '2'))
    """
    if not isinstance(thresholds, Thresholds) or not callable(loss):
        wrong = loss if isinstance(thresholds, Thresholds) else thresholds
        raise DtypeError(
            f"diagnose: loss is a function of output and target, thresholds are of class "
            f"Thresholds; received {wrong!r:.60}"
        )
    if isinstance(subject, Module):
        if x is None or y is None:
            raise ArgumentError(
                "diagnose: a model comes with a batch, x and y; received "
                f"{'no x' if x is None else 'no y'}. Or pass a GradientFlow"
            )
        flow = _one_pass(subject, x, y, loss)
    elif isinstance(subject, GradientFlow):
        flow = subject
    else:
        raise DtypeError(
            f"diagnose: takes a GradientFlow or a Module; received a {type(subject).__name__}. "
            f"The order is model, x, y"
        )
    if not flow.records:
        raise ArgumentError(
            "diagnose: at least one backward pass must be recorded; none was. Was the loss "
            "computed by this model, and inside the with block?"
        )
    return _Judge(flow, thresholds).diagnosis()


def _one_pass(model: Module, x: Any, y: Any, loss: Callable[[Any, Any], Tensor]) -> GradientFlow:
    """Record a pass, and put everything back."""
    given = [value for value in (x, y) if isinstance(value, Tensor)]
    grads = [(tensor, tensor._grad) for tensor in [*model.parameters(), *given]]
    buffers = {name: array.copy() for name, array in model.named_buffers()}
    generators = [(rng, rng.bit_generator.state) for _, rng in model.named_generators()]
    try:
        for tensor, _ in grads:
            tensor._grad = None
        with np.errstate(all="ignore"), GradientFlow(model) as flow:
            loss(model(x), y).backward(retain="leaves")
    finally:
        for tensor, grad in grads:
            tensor._grad = grad
        for name, array in model.named_buffers():
            array[...] = buffers.get(name, array)  # one that is new is left
        for rng, state in generators:
            rng.bit_generator.state = state
    return flow


class _Judge:
    """The numbers of a flow that are compared with thresholds."""

    def __init__(self, flow: GradientFlow, thresholds: Thresholds) -> None:
        self.flow = flow
        self.limits = thresholds
        window = list(flow.records)[-thresholds.window :]
        bad = [i for i, record in enumerate(window) if not _is_finite(record)]
        self.bad = window[bad[0]] if bad else None
        # NaN compares with nothing: what is judged is what came before it.
        window = window[: bad[0]] if bad and bad[0] > 0 else window
        self.last = window[-1]
        # A pass that went another way has other layers.
        self.window = [r for r in window if r.layers.keys() == self.last.layers.keys()]
        self.names = list(self.last.layers)
        hidden = [flow.units.get(name, 1) for name in self.names[:-1]]
        self.band = gradient_band(hidden, thresholds.level)
        self.logs = self._logs()

    def diagnosis(self) -> Diagnosis:
        findings = self._non_finite()
        if self.last is not self.bad:
            findings += [*self._flat_units("dead units"), *self._flat_units("saturated units")]
            shape = [*self._exploding(), *self._vanishing()]
            known = {name for finding in shape for name in finding.layers}
            findings += [*shape, *self._frozen(known), *self._plateau()]
        return Diagnosis(tuple(findings), self._summary())

    def _logs(self) -> "ndarray":
        """log₁₀ ‖δ_l‖/‖δ_L‖, the median over the window; NaN where there is nothing to compare."""
        rows = []
        with np.errstate(all="ignore"):
            for record in self.window:
                norms = np.array([layer.delta.norm for layer in record.layers.values()])
                if norms[-1] > 0:
                    rows.append(np.log10(norms) - np.log10(norms[-1]))
            return np.median(rows, axis=0) if rows else np.full(len(self.names), math.nan)

    def _series(self, read: Callable[[Any], float | None]) -> "ndarray":
        """A number of each layer over the window: (records, layers), NaN where there is none."""
        rows = [[read(layer) for layer in record.layers.values()] for record in self.window]
        return np.array(rows, dtype=float)

    @property
    def _at_floor(self) -> bool:
        """Whether the loss has nothing left to fall."""
        first, last = self.flow.records[0].loss, self.last.loss
        return len(self.flow.records) > 1 and 0 <= last < self.limits.floor * first

    def _non_finite(self) -> list[Finding]:
        record = self.bad
        if record is None:
            return []
        layers = record.layers.items()
        weights = [name for name, x in layers if not math.isfinite(x.weight_rms)]
        gradients = [name for name, x in layers if not _finite_gradients(x)]
        parts = [] if math.isfinite(record.loss) else [f"the loss is {record.loss}"]
        parts += [f"weights hold NaN or infinity in {_listed(weights)}"] if weights else []
        parts += [f"gradients are not finite in {_listed(gradients)}"] if gradients else []
        return [
            Finding(
                "non-finite",
                f"at step {record.step} {', '.join(parts)}",
                tuple(weights or gradients),
                {"step": record.step, "loss": record.loss},
                math.inf,
                "after one NaN or infinity every later number is one too; what else is listed "
                "was there before",
                "find where it begins with tg.detect_anomaly(); lower the learning rate, clip the "
                "gradient's norm, check the data and logarithms or divisions of your own",
            )
        ]

    def _flat_units(self, kind: Literal["dead units", "saturated units"]) -> list[Finding]:
        """Activations before the last layer that pass too little."""
        met = list(self.flow.units)
        limit = self.limits.dead if kind == "dead units" else self.limits.saturated
        shares = {}
        for name in self.last.activations:
            bounded = name.partition("#")[0].rpartition(".")[2] in _BOUNDED
            if bounded != (kind == "saturated units") or name not in met:
                continue
            if not set(met[met.index(name) :]) & set(self.names):
                continue  # the output's own
            records = [r.activations[name] for r in self.window if name in r.activations]
            share = float(np.median([r.saturated if bounded else r.dead for r in records]))
            if share >= limit:
                shares[name] = share
        if not shares:
            return []
        worst = max(shares, key=shares.__getitem__)
        if kind == "dead units":
            what = "no example moves"
            why = (
                "a unit with φ′ = 0 for every example passes no gradient, and so never comes back; "
                f"that half of them are flat for one batch is usual in deep nets, {limit:.0%} is "
                "not"
            )
            advice = (
                "lower the learning rate (a large step pushes biases far below 0), begin with "
                "biases of 0 and He weights, or use leaky ReLU, ELU or a normalisation"
            )
        else:
            what = f"|φ′| < {self.flow.saturation:g} for"
            why = (
                "a saturated unit passes almost no gradient; healthy nets have some per cent, a "
                f"net in which {limit:.0%} are saturated hardly learns"
            )
            advice = (
                "smaller initial weights (Xavier), inputs of mean 0 and variance 1, a lower "
                "learning rate, normalisation before the activation"
            )
        things = "of the units" if kind == "dead units" else "of the elements"
        message = f"{what} {shares[worst]:.0%} {things} of {worst}"
        if len(shares) > 1:
            message += f", and too many in {len(shares)} activations, {_listed(list(shares))}"
        return [Finding(kind, message, tuple(shares), shares, limit, why, advice)]

    def _exploding(self) -> list[Finding]:
        findings = []
        ends = math.log10(self.limits.exploding) + np.append(np.log10(self.band.high), 0.0)
        over = [name for name, x, end in zip(self.names, self.logs, ends, strict=True) if x > end]
        if over:
            k = int(np.nanargmax(self.logs))
            findings.append(
                Finding(
                    "exploding",
                    f"‖δ‖ is {_power(self.logs[k])} times as large at {self.names[k]} as at "
                    f"{self.names[-1]}, × {self._a_layer(k):.2g} a layer on the way down",
                    tuple(over),
                    {"growth": _ten(self.logs[k]), "factor a layer": self._a_layer(k)},
                    _ten(float(ends[k])),
                    "chance alone, at these widths, makes it up to "
                    f"{np.append(self.band.high, 1.0)[k]:.2g} times as large; healthy nets stay "
                    f"below 6 times that, this one is above {self.limits.exploding:g} times",
                    "smaller initial weights (He for ReLU, Xavier for tanh), residual branches "
                    "scaled by 1/√L or begun by a normalisation, clipping by norm while training",
                )
            )
        updates = self._series(lambda layer: layer.update)
        known = np.isfinite(updates).sum(axis=0) >= 5  # layers that begin at 0 move far at first
        typical = np.nanmedian(updates[:, known], axis=0) if known.any() else []
        names = [name for name, k in zip(self.names, known, strict=True) if k]
        large = {
            name: float(ratio)
            for name, ratio in zip(names, typical, strict=True)
            if ratio > self.limits.update
        }
        if large:
            worst = max(large, key=large.__getitem__)
            findings.append(
                Finding(
                    "exploding",
                    f"a step changes the weights of {worst} by {large[worst]:.2g} times their "
                    f"size; too much in {_listed(list(large))}",
                    tuple(large),
                    large,
                    self.limits.update,
                    "the rule of thumb for ‖ΔW‖/‖W‖ is 1e-3; above "
                    f"{self.limits.update:g} a step forgets what was learnt",
                    "lower the learning rate, warm it up, clip the gradient's norm",
                )
            )
        return findings

    def _vanishing(self) -> list[Finding]:
        if self._at_floor:
            return []
        # What reaches a layer further down has passed this one by: a branch that is still zero.
        reach = np.maximum.accumulate(np.where(np.isnan(self.logs), -math.inf, self.logs))
        ends = math.log10(self.limits.vanishing) + np.append(np.log10(self.band.low), 0.0)
        ends = np.maximum(ends, math.log10(self.limits.lost))
        layers = list(self.last.layers.values())
        comparable = bool(np.isfinite(self.logs[-1]))
        silent = not comparable and self.last.loss != 0  # not even the last layer has a gradient
        under = []
        for i, (layer, above) in enumerate(zip(layers, [*layers[1:], None], strict=True)):
            delta = layer.delta
            gone = delta.subnormals > 0 and delta.subnormals + delta.zeros == 1
            # Below weights that begin at 0, as branches may, there is no gradient for one step.
            begins = above is not None and above.weight_rms == 0 and above.weight_grad.norm > 0
            if silent or ((gone or (comparable and reach[i] < ends[i])) and not begins):
                under.append(i)
        if not under:
            return []
        names = [self.names[i] for i in under]
        k = under[int(np.argmin(self.logs[under]))] if comparable else under[0]
        why = (
            f"chance alone, at these widths, leaves a factor {np.append(self.band.low, 1.0)[k]:.2g}"
            f" or more; healthy nets keep a tenth of that, this one less than "
            f"{self.limits.vanishing:g} of it"
        )
        if ends[k] == math.log10(self.limits.lost):
            why = f"with {self.limits.lost:g} of a gradient a layer stands still, be it by chance"
        if not comparable:
            message = "no gradient reaches even the last layer, though the loss is not 0"
        elif self.logs[k] == -math.inf:
            message = f"nothing reaches {_listed(names)}: δ is exactly 0"
            why = "with a gradient of exactly 0 nothing is learnt, at any learning rate"
        else:
            message = (
                f"‖δ‖ at {self.names[k]} is {_power(self.logs[k])} of that at {self.names[-1]}, × "
                f"{self._a_layer(k):.2g} a layer on the way down; too small in {_listed(names)}"
            )
            if still := self._still():
                message += (
                    f"; ‖∂L/∂W‖ < {self.limits.still:g} ‖W‖ in {_listed(still)}, so that plain "
                    f"gradient descent leaves them as they are"
                )
            if lost := layers[k].delta.subnormals:
                message += f"; {lost:.0%} of the elements of δ at {self.names[k]} are subnormal"
        return [
            Finding(
                "vanishing",
                message,
                tuple(names),
                {
                    "decay": _ten(self.logs[k]),
                    "factor a layer": self._a_layer(k),
                    "gradient to weight": layers[k].weight_grad.rms
                    / (layers[k].weight_rms or math.nan),
                    "layers that do not learn": len(self._still()),
                },
                _ten(float(ends[k])),
                why,
                "an activation whose slope is 1 (ReLU with He, tanh with Xavier or orthogonal "
                "weights), residual connections, normalisation; clipping and regularisation do not",
            )
        ]

    def _still(self) -> list[str]:
        """Layers that plain gradient descent leaves as they are."""
        layers = self.last.layers.items()
        still = self.limits.still
        return [name for name, x in layers if x.weight_grad.rms < still * x.weight_rms]

    def _standing_still(self) -> Finding:
        return Finding(
            "frozen layers",
            "the optimiser moves nothing",
            tuple(self.names),
            {"largest update": 0.0},
            0.0,
            "no step changed any weight",
            "check the learning rate: it is 0 where a schedule has ended",
        )

    def _frozen(self, known: set[str]) -> list[Finding]:
        model = self.flow.model
        off = [n for n, p in model.named_parameters() if p.ndim > 1 and not p.requires_grad]
        seen = {name.partition("#")[0] for record in self.flow.records for name in record.layers}
        cut = [name for name in self.flow.watched if name not in seen]
        updates = self._series(lambda layer: layer.update)
        unmoved = []
        if np.isfinite(updates).any() and not self._at_floor:
            most = np.max(np.where(np.isfinite(updates), updates, -1), axis=0)  # −1: not measured
            usual = float(np.median(most[most >= 0]))
            if most.max() == 0:
                return [self._standing_still()]
            still = self._still()
            for name, u in zip(self.names, most, strict=True):
                little = u < self.limits.frozen * usual or (u == 0 and name not in still)
                if u >= 0 and little and name not in known and "#" not in name:
                    unmoved.append(name)
        findings = []
        for names, what, advice in (
            (off, "requires_grad is False for", "set requires_grad = True, unless that is meant "
             "(a pretrained part that is kept)"),
            (cut, "no gradient reaches", "look for detach(), .data, a conversion to an array or "
             "no_grad() on the way to the loss, and for layers that forward() does not use"),
            (unmoved, "the optimiser hardly moves", "check that the optimiser has these parameters,"
             " and the learning rate of their group"),
        ):  # fmt: skip
            if names:
                findings.append(
                    Finding(
                        "frozen layers",
                        f"{what} {_listed(names)}",
                        tuple(names),
                        {"layers": len(names)},
                        self.limits.frozen,
                        f"a layer that changes less than {self.limits.frozen:g} times what the "
                        "median layer does stays as it was drawn; healthy ones are above 1/60",
                        advice,
                    )
                )
        return findings

    def _plateau(self) -> list[Finding]:
        losses, limits = self.flow.losses, self.limits
        if len(losses) < limits.least_records or not np.isfinite(losses).all():
            return []
        first, late = float(losses[: max(1, len(losses) // 20)].mean()), losses[len(losses) // 2 :]
        level = float(late.mean())
        if first <= 0 or level < limits.fallen * first:
            return []
        steps = np.arange(len(late)) - (len(late) - 1) / 2
        slope = float(steps @ late / (steps @ steps))
        rest = late - level - slope * steps
        noise = math.sqrt(float(rest @ rest) / (len(late) - 2) / float(steps @ steps))
        fall, doubt = -slope * len(late) / level, 2 * noise * len(late) / level
        if fall + doubt >= limits.flat:
            return []
        return [
            Finding(
                "loss plateau",
                f"over the last {len(late)} records the loss stays at {level:.4g}, having begun at "
                f"{first:.4g}; it falls by {fall:.1%} ± {doubt:.1%}",
                (),
                {"loss": level, "first loss": first, "fall": fall},
                limits.flat,
                f"less than {limits.flat:.0%}, beyond twice its noise, with the loss still above "
                f"{limits.fallen:.0%} of where it began; a loss that has fallen further has "
                "converged. If training was taken up again, or the data's own noise is as large "
                "as this, it may be at its floor",
                "first what else is listed here; then a larger learning rate, Adam, another "
                "initialisation; for sigmoid and tanh nets more patience",
            )
        ]

    def _summary(self) -> str:
        if len(self.names) < 2 or not math.isfinite(self.logs[0]):
            return ""
        down = len(self.names) - 1
        text = (
            f"From {self.names[-1]} down to {self.names[0]} ({down} layer{'s'[: down > 1]}) ‖δ‖ is "
            f"multiplied by {_power(self.logs[0])}: × {self._a_layer(0):.2g} a layer."
        )
        if len(self._still()) == len(self.names):
            text += (
                " All gradients are tiny against their weights: if the loss is as low as it can "
                "be, this is a minimum; else look at the output and at the scale of the loss."
            )
        return text

    def _a_layer(self, k: int) -> float:
        """The mean factor a layer from the last to layer k."""
        steps = len(self.names) - 1 - k
        return _ten(self.logs[k] / steps) if steps else math.nan


def _finite_gradients(layer: LayerFlow) -> bool:
    return math.isfinite(layer.delta.norm) and math.isfinite(layer.weight_grad.norm)


def _is_finite(record: Record) -> bool:
    """Whether loss, gradients and weights are all finite."""
    layers = record.layers.values()
    return math.isfinite(record.loss) and all(
        math.isfinite(x.weight_rms) and _finite_gradients(x) for x in layers
    )


def _ten(exponent: float) -> float:
    """10 to a power that may be beyond floats."""
    return 10.0**exponent if exponent < 308 else math.inf


def _power(exponent: float) -> str:
    """A number given by its log₁₀, to two digits."""
    return f"{_ten(exponent):.2g}"


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence: some, or the first and the last."""
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]} … {names[-1]} ({len(names)} of them)"
