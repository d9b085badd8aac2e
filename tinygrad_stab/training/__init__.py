"""Training: batches, the loop, when to stop, and checkpoints."""

from .checkpoint import load, save
from .loader import DataLoader
from .loop import EarlyStopping, accuracy, fit

__all__ = ["DataLoader", "EarlyStopping", "accuracy", "fit", "load", "save"]
