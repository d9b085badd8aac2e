"""See: look into a graph and its gradients by name, and at the formulas behind them."""

from .formula import formula, formulas
from .names import intermediates
from .reference import Operation, reference, reference_markdown

__all__ = [
    "Operation",
    "formula",
    "formulas",
    "intermediates",
    "reference",
    "reference_markdown",
]
