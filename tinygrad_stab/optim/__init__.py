"""Optimisers and gradient clipping, under PyTorch's names."""

from .clip import clip_grad_norm_
from .optimizers import SGD, Optimizer

__all__ = ["SGD", "Optimizer", "clip_grad_norm_"]
