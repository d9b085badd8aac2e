"""Measure what happens to gradients on their way through a network, and predict it."""

from ..arrays import rms
from .theory import LayerStatistics, mean_field, predict_factors

__all__ = ["LayerStatistics", "mean_field", "predict_factors", "rms"]
