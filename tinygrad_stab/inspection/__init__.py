"""See: look into a graph and its gradients by name, and at the formulas behind them."""

from .formula import formula, formulas
from .names import intermediates

__all__ = ["formula", "formulas", "intermediates"]
