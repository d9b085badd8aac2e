"""Layers, losses and initialisers, under PyTorch's names."""

from . import functional, init
from .activations import ReLU, Sigmoid, Tanh
from .containers import Residual, Sequential
from .layers import Linear
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from .module import Module

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "Linear",
    "MSELoss",
    "Module",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "functional",
    "init",
]
