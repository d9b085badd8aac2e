"""Training: batches, the loop, when to stop, and checkpoints."""

from .checkpoint import load, save
from .evaluation import accuracy
from .loader import DataLoader
from .loop import fit
from .stopping import EarlyStopping

__all__ = ["DataLoader", "EarlyStopping", "accuracy", "fit", "load", "save"]
