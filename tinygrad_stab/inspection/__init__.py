"""See: look into a graph and its gradients by name, and at the formulas behind them."""

from .formula import formula, formulas
from .names import intermediates
from .provenance import Source, record, source
from .reference import Operation, reference, reference_markdown
from .trace import Argument, Node, Step, Term, Trace, trace

__all__ = [
    "Argument",
    "Node",
    "Operation",
    "Source",
    "Step",
    "Term",
    "Trace",
    "formula",
    "formulas",
    "intermediates",
    "record",
    "reference",
    "reference_markdown",
    "source",
    "trace",
]
