"""The reference of operations, read off their records."""

from typing import NamedTuple

from ..core.primitive import REGISTRY, Primitive
from ..domain import CONDITION, Domain, Integers, Interval
from .formula import formulas


class Operation(NamedTuple):
    """What a record says of an operation, in words.

    Attributes
    ----------
    name : str
    call : str
        Its arguments and parameters.
    gradients : dict of str to str
        Argument -> formula of ∂L/∂argument, read off the rule; empty where there is none.
    domain : str
        Where tests draw its arguments from.
    conventions : list of str
        What is taken where there is no derivative.
    analytic : bool
        Whether the complex step applies.
    summary : str
        The first sentence of its documentation.
    """

    name: str
    call: str
    gradients: dict[str, str]
    domain: str
    conventions: list[str]
    analytic: bool
    summary: str


def reference() -> list[Operation]:
    """Every operation of the registry, by name.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tanh = next(op for op in tg.inspection.reference() if op.name == "tanh")
    >>> tanh.gradients, tanh.domain
    ({'x': '(1 − out·out)·∂L/∂out'}, '−3 … 3')
    """
    return [_operation(primitive) for _, primitive in sorted(REGISTRY.items())]


def reference_markdown() -> str:
    """The reference as a Markdown table."""
    lines = [
        "| operation | gradient | domain | at kinks |",
        "|---|---|---|---|",
    ]
    for op in reference():
        gradients = "<br>".join(f"∂L/∂{x} = `{f}`" for x, f in op.gradients.items())
        cells = (f"`{op.call}`", gradients or "constant", op.domain, "; ".join(op.conventions))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _operation(primitive: Primitive) -> Operation:
    names = primitive.arg_names
    domains = primitive.domain
    if primitive.variadic:
        names, domains = (f"*{names[0]}",), domains[:1]
    words = [_domain(d) for d in domains]
    if len(set(words)) > 1:
        words = [f"{n}: {w}" for n, w in zip(names, words, strict=False)]
    return Operation(
        name=primitive.name,
        call=f"{primitive.name}({', '.join(names + primitive.param_names)})",
        gradients=formulas(primitive) if primitive.rules else {},
        domain="; ".join(dict.fromkeys(words)),
        conventions=[kink.convention for kink in primitive.kinks],
        analytic=primitive.analytic,
        summary=" ".join((primitive.__doc__ or "").split("\n\n")[0].split()),
    )


def _domain(domain: Domain) -> str:
    if domain == CONDITION:
        return "true or false"
    if isinstance(domain, Interval):
        return f"{domain.low:g} … {domain.high:g}".replace("-", "−")
    if isinstance(domain, Integers):
        return f"integers {domain.low} … {domain.high - 1}"
    return "positive definite"
