"""Who made the gradient small: its decay, layer by layer, split by what caused it."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..arrays import norm, plain
from ..core.tensor import Tensor
from ..errors import DtypeError, GraphError
from ..inspection.explain import Explanation, explain
from ..inspection.trace import Node, trace
from ..nn.module import Module
from ..nn.normalization import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from .flow import layers_of

KINDS = ("activation", "weights", "skip", "normalisation", "other")


class LayerDecay(NamedTuple):
    """What happens to ‖δ‖ from the layer above to this one, in powers of ten.

    Attributes
    ----------
    name : str
        The layer; one that is called again has a number.
    size : float
        log₁₀ ‖δ‖, δ = ∂L/∂(the layer's output). −∞ if δ is 0.
    change : float
        ``size`` less that of the layer above; of the last layer, ``size`` itself. It is the sum of
        the rest. NaN where the gradient above is 0 already.
    activation : float
        By derivatives of activations, φ′ < 1.
    weights : float
        By the layers' linear maps, backwards.
    skip : float
        By blocks y = x + f(x), whose ways past f and through it add up.
    normalisation : float
    other : float
        By the rest: pooling, reshaping and, of the last layer, the loss.
    """

    name: str
    size: float
    change: float
    activation: float
    weights: float
    skip: float
    normalisation: float
    other: float


@dataclass(frozen=True)
class Attribution:
    """The decay of a gradient from loss to input; printed, a table from the last layer down.

    Attributes
    ----------
    layers : tuple of LayerDecay
        From input to output.
    """

    layers: tuple[LayerDecay, ...]

    @property
    def total(self) -> dict[str, float]:
        """By kind, from the last layer down to the first: together, how ‖δ‖ changes."""
        below = self.layers[:-1]
        return {kind: sum(getattr(layer, kind) for layer in below) for kind in KINDS}

    def __str__(self) -> str:
        kinds = [k for k in KINDS if any(getattr(layer, k) != 0 for layer in self.layers)]
        rows = [["layer", "log10 ‖δ‖", "change", *kinds]]
        for layer in reversed(self.layers):
            numbers = [_signed(getattr(layer, kind)) for kind in ("change", *kinds)]
            rows.append([layer.name, f"{layer.size:.2f}", *numbers])
        if len(self.layers) > 1:
            total = self.total
            change = self.layers[0].size - self.layers[-1].size
            rows.append(
                ["last to first", "", *map(_signed, [change, *(total[kind] for kind in kinds)])]
            )
        wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join(
            "  ".join([row[0].ljust(wide[0]), *map(str.rjust, row[1:], wide[1:])]) for row in rows
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, for JSON; what is not finite becomes None."""
        return plain({"layers": self.layers, "total": self.total})


def attribute(loss: Tensor, model: Module) -> Attribution:
    """Split the decay of a gradient, layer by layer, by what caused it.

    `tg.inspection.explain` writes ∂L/∂(a layer's output) as a product of factors, whose gains
    multiply out to its norm. Their logarithms, summed by kind, are a layer's account; what stands
    in the table is the account of a layer less that of the layer above, so that rows and columns
    add up exactly. In a chain that is what lies between the two; where the layer above sits in a
    branch beside the stream, its own branch is taken back again.

    Parameters
    ----------
    loss : Tensor
        A scalar that was computed by the model. No ``.grad`` is touched.
    model : Module

    Returns
    -------
    Attribution

    Raises
    ------
    GraphError
        The loss has no graph, is no scalar, or no layer of the model is in its graph.
    DtypeError
        ``model`` is no module.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> rng = np.random.default_rng(0)
    >>> net = tg.nn.Sequential(
    ...     tg.nn.Linear(8, 8, rng=rng), tg.nn.Sigmoid(), tg.nn.Linear(8, 3, rng=rng)
    ... )
    >>> loss = tg.nn.functional.cross_entropy(net(rng.normal(size=(16, 8))), np.arange(16) % 3)
    >>> print(tg.diagnostics.attribute(loss, net))
    layer          log10 ‖δ‖  change  activation  weights  other
    2                  -0.68   -0.68       +0.00    +0.00  -0.68
    0                  -1.61   -0.93       -0.63    -0.30  +0.00
    last to first              -0.93       -0.63    -0.30  +0.00
    """
    if not isinstance(model, Module):
        raise DtypeError(
            f"attribute: the second argument is the model; received a {type(model).__name__}. The "
            f"order is loss, model"
        )
    whole = trace(loss, model)
    _, standing = layers_of(model)
    found: dict[int, tuple[str, Node]] = {}  # of a call or a node: the last result
    for node in reversed(whole.nodes):
        scope = node.tensor.scope
        if node.op is None or node.grad is None:
            continue
        if scope is not None and (path := standing.get(id(scope[1]))) is not None:
            found.setdefault(id(scope), (path, node))
        else:
            for arg in node.tensor.args:
                if (path := standing.get(id(arg))) is not None:
                    found[id(node)] = (path, node)
    if not found:
        raise GraphError(
            f"attribute: a layer of the model must be in the loss's graph; none of "
            f"{type(model).__name__} is. Was the loss computed by this model?"
        )
    kinds = _kinds_by_place(model, list(standing.values()))
    modules = {node.name: node.module for node in whole.nodes}
    layers: list[LayerDecay] = []
    above, size_above = dict.fromkeys(KINDS, 0.0), 0.0
    for name, (_, node) in zip(_names(found), found.values(), strict=True):
        account = _account(explain(loss, node.tensor, model), modules, kinds)
        length = norm(node.grad)
        size = math.log10(length) if length else -math.inf
        parts = {kind: account[kind] - above[kind] for kind in KINDS}
        layers.append(LayerDecay(name, size, size - size_above, **parts))
        above, size_above = account, size
    return Attribution(tuple(reversed(layers)))


def _names(found: dict[int, tuple[str, Node]]) -> list[str]:
    """Of the layers, output first; calls are numbered from the input."""
    times: dict[str, int] = {}
    names = []
    for path, _ in reversed(found.values()):
        times[path] = times.get(path, 0) + 1
        names.append(path if times[path] == 1 else f"{path}#{times[path]}")
    return names[::-1]


def _kinds_by_place(model: Module, layers: list[str]) -> dict[str, str]:
    """What the modules of a model are, by path: normalisations, and layers with weights."""
    norms = (BatchNorm1d, BatchNorm2d, LayerNorm, GroupNorm)
    places = {path: "normalisation" for path, m in model.named_modules() if isinstance(m, norms)}
    return dict.fromkeys(layers, "weights") | places


def _account(
    explanation: Explanation, modules: dict[str, str], places: dict[str, str]
) -> dict[str, float]:
    """By kind, log₁₀ of what the factors of a chain rule multiply to."""
    account = dict.fromkeys(KINDS, 0.0)
    seed = norm(explanation.seed)
    account["other"] = math.log10(seed) if seed else -math.inf
    for factor in explanation.factors:
        kind = factor.kind
        if factor.operation == "standardize":
            kind = "normalisation"
        elif kind in ("other", "branches"):  # such as the reshaping in a convolution
            kind = places.get(modules[factor.upper], "other")
        account[kind] += 0.0 if math.isnan(factor.log10) else factor.log10  # NaN: it was 0 before
    return account


def _signed(number: float) -> str:
    return "–" if math.isnan(number) else f"{round(number, 2) + 0.0:+.2f}"  # no −0.00
