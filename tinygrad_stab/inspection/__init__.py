"""See: look into a graph and its gradients by name, and at the formulas behind them."""

from .anomaly import detect_anomaly
from .explain import Explanation, Factor, Path, explain
from .formula import formula, formulas
from .names import intermediates
from .provenance import Source, record, source
from .reference import Operation, reference, reference_markdown
from .step import Backprop, LocalDerivative, StepView, local_derivative
from .trace import Argument, Node, Step, Term, Trace, trace

__all__ = [
    "Argument",
    "Backprop",
    "Explanation",
    "Factor",
    "LocalDerivative",
    "Node",
    "Operation",
    "Path",
    "Source",
    "Step",
    "StepView",
    "Term",
    "Trace",
    "detect_anomaly",
    "explain",
    "formula",
    "formulas",
    "intermediates",
    "local_derivative",
    "record",
    "reference",
    "reference_markdown",
    "source",
    "trace",
]
