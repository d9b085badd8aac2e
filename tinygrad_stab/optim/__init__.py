"""Optimisers, penalties and gradient clipping, under PyTorch's names."""

from .base import Optimizer
from .clip import (
    Clipped,
    adaptive_clip_grad_,
    clip_grad_norm_,
    clip_grad_norm_each_,
    clip_grad_value_,
)
from .composed import ChainedScheduler, OneCycleLR, ReduceLROnPlateau, SequentialLR
from .optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from .penalties import decay_groups, l1_penalty, l2_penalty
from .schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    StepLR,
    WarmupCosineLR,
    WarmupLR,
)

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ChainedScheduler",
    "Clipped",
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupCosineLR",
    "WarmupLR",
    "adaptive_clip_grad_",
    "clip_grad_norm_",
    "clip_grad_norm_each_",
    "clip_grad_value_",
    "decay_groups",
    "l1_penalty",
    "l2_penalty",
]
