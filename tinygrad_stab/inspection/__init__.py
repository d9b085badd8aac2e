"""See: look into a graph and its gradients by name, and at the formulas behind them."""

from .anomaly import detect_anomaly
from .explain import Explanation, Factor, Path, explain
from .formula import formula, formulas, term_formula
from .graph import svg, to_dot, to_mermaid
from .layout import Box, Group, Layout, Wire, layout
from .names import intermediates, table
from .page import page
from .provenance import Source, record, source
from .reference import Operation, reference, reference_markdown
from .step import Backprop, LocalDerivative, StepView, local_derivative
from .trace import Argument, Node, Step, Term, Trace, trace

__all__ = [
    "Argument",
    "Backprop",
    "Box",
    "Explanation",
    "Factor",
    "Group",
    "Layout",
    "LocalDerivative",
    "Node",
    "Operation",
    "Path",
    "Source",
    "Step",
    "StepView",
    "Term",
    "Trace",
    "Wire",
    "detect_anomaly",
    "explain",
    "formula",
    "formulas",
    "intermediates",
    "layout",
    "local_derivative",
    "page",
    "record",
    "reference",
    "reference_markdown",
    "source",
    "svg",
    "table",
    "term_formula",
    "to_dot",
    "to_mermaid",
    "trace",
]
