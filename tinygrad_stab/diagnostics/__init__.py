"""Measure what happens to gradients on their way through a network, and predict it."""

from ..arrays import rms
from .attribution import Attribution, LayerDecay, attribute
from .finite_width import gradient_band, gradient_spread, spread_rate
from .flow import GradientFlow, read_flow, watch
from .infinite_width import (
    correlation_map,
    critical_point,
    mean_field,
    phase_diagram,
    variance_map,
)
from .plots import plot
from .stacks import (
    LayerStatistics,
    batch_norm_chi,
    predict_factors,
    recurrent_bound,
    residual_growth,
)
from .verdict import Diagnosis, Finding, Thresholds, diagnose

__all__ = [
    "Attribution",
    "Diagnosis",
    "Finding",
    "GradientFlow",
    "LayerDecay",
    "LayerStatistics",
    "Thresholds",
    "attribute",
    "batch_norm_chi",
    "correlation_map",
    "critical_point",
    "diagnose",
    "gradient_band",
    "gradient_spread",
    "mean_field",
    "phase_diagram",
    "plot",
    "predict_factors",
    "read_flow",
    "recurrent_bound",
    "residual_growth",
    "rms",
    "spread_rate",
    "variance_map",
    "watch",
]
