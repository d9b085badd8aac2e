"""Normalisation: layers that give their features mean 0 and variance 1, and learn the rest.

They differ in what a mean is taken over. Of (N, C, H, W): batch normalisation over N, H and W;
layer normalisation over C, H and W; group normalisation over a group of C, H and W.
"""

from typing import Any, ClassVar

import numpy as np

from ..checks import check_integers, check_numbers
from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from . import functional, init
from .module import Module


def _scale_and_shift(
    shape: tuple[int, ...], scale: bool, shift: bool, dtype: Any
) -> tuple[Tensor | None, Tensor | None]:
    """γ and β: as if they were not there, until they have learnt."""
    weight = init.ones_(init.empty(shape, dtype, "weight")) if scale else None
    return weight, init.empty(shape, dtype, "bias") if shift else None


def _check_eps(layer: str, eps: float) -> float:
    check_numbers(layer, "finite, at least 0", lambda e: e >= 0, eps=eps)
    return float(eps)


class _BatchNorm(Module):
    """What batch normalisation does, whatever axes come after (N, C)."""

    _shapes: ClassVar[dict[int, str]]  # what inputs look like, by their number of axes

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = np.float64,
    ) -> None:
        name = type(self).__name__
        check_integers(name, 0, num_features=num_features)
        if momentum is not None:
            check_numbers(name, "from 0 to 1, or None", lambda m: 0 <= m <= 1, momentum=momentum)
        self.num_features = num_features
        self.eps = _check_eps(name, eps)
        self.momentum = momentum
        self.weight, self.bias = _scale_and_shift((num_features,), affine, affine, dtype)
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            self.running_mean = np.zeros(num_features, dtype)
            self.running_var = np.ones(num_features, dtype)
            self.num_batches_tracked = np.zeros((), np.int64)

    def forward(self, x: Any) -> Any:
        """Standardise each channel."""
        shape = np.shape(x)
        if len(shape) not in self._shapes or shape[1] != self.num_features:
            known = " or ".join(self._shapes.values()).replace("C", str(self.num_features))
            raise ShapeError(
                f"{type(self).__name__}: the input has shape {known}; received {shape}. Does the "
                f"layer belong to another one's output?"
            )
        momentum = 0.0
        if self.training and self.num_batches_tracked is not None:
            average = 1 / (int(self.num_batches_tracked) + 1)
            momentum = average if self.momentum is None else self.momentum
        out = functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum,
            self.eps,
        )
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        return out

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """γ·(x − mean)/√(variance + eps) + β, feature by feature over the batch.

    Ioffe & Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift", algorithms 1 and 2.

    In training mean and variance are the batch's, and gradients pass through them; in evaluation
    they are running averages: r ← (1 − momentum)·r + momentum·(batch's), where the batch's variance
    is the unbiased one, Σ (x − mean)²/(n − 1).

    Parameters
    ----------
    num_features : int
        C, for inputs of shape (N, C) or (N, C, L).
    eps : float
        Keeps a constant feature finite.
    momentum : float or None
        From 0 to 1. None: the plain average of all batches so far.
    affine : bool
        Whether there are γ and β.
    track_running_stats : bool
        False: evaluation uses the batch's statistics too.
    dtype : dtype
        Of parameters and running statistics.

    Attributes
    ----------
    weight, bias : Tensor of shape (C,), or None
        γ, at first 1, and β, at first 0.
    running_mean, running_var : ndarray of shape (C,), or None
    num_batches_tracked : ndarray of shape (), or None

    Raises
    ------
    ShapeError
        An input of another shape; in training, one value a feature, which has no variance.
    ArgumentError
        An argument outside its range.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> layer = tg.nn.BatchNorm1d(1, eps=0.0)
    >>> layer(tg.tensor([[1.0], [3.0]])).data.ravel()
    array([-1.,  1.])
    >>> layer.running_mean, layer.running_var
    (array([0.2]), array([1.1]))
    """

    _shapes: ClassVar = {2: "(N, C)", 3: "(N, C, L)"}


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W), over N, H and W; see :class:`BatchNorm1d`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> out = tg.nn.BatchNorm2d(3)(np.random.default_rng(0).normal(5, 2, size=(4, 3, 8, 8)))
    >>> bool(np.allclose(out.data.mean(axis=(0, 2, 3)), 0))
    True
    """

    _shapes: ClassVar = {4: "(N, C, H, W)"}


class LayerNorm(Module):
    """γ·(x − mean)/√(variance + eps) + β over the last axes, each example by itself.

    Ba, Kiros & Hinton 2016, "Layer Normalization", §3. Training and evaluation are the same.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The lengths of the last axes.
    eps : float
    elementwise_affine : bool
        Whether there is a γ.
    bias : bool
        Whether there is a β beside it.
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    weight, bias : Tensor of shape normalized_shape, or None

    Raises
    ------
    ShapeError
        The input does not end in ``normalized_shape``.
    ArgumentError
        An argument outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.nn.LayerNorm(2, eps=0.0)(tg.tensor([[1.0, 3.0], [10.0, 0.0]])).data
    array([[-1.,  1.],
           [ 1., -1.]])
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float64,
    ) -> None:
        one = isinstance(normalized_shape, int | np.integer)
        shape: Any = (normalized_shape,) if one else normalized_shape
        if not (isinstance(shape, tuple | list) and shape):
            raise ArgumentError(
                f"LayerNorm: normalized_shape is an integer, or several; received {shape!r:.60}"
            )
        shape = tuple(shape)
        for length in shape:
            check_integers("LayerNorm", 1, normalized_shape=length)
        self.normalized_shape = shape
        self.eps = _check_eps("LayerNorm", eps)
        self.weight, self.bias = _scale_and_shift(
            shape, elementwise_affine, elementwise_affine and bias, dtype
        )

    def forward(self, x: Any) -> Any:
        """X of shape (…, *normalized_shape)."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """γ·(x − mean)/√(variance + eps) + β over groups of channels, each example by itself.

    Wu & He 2018, "Group Normalization", §3.1. One group is layer normalisation of the whole
    example; as many groups as channels, instance normalisation.

    Parameters
    ----------
    num_groups, num_channels : int
        The first divides the second, C.
    eps : float
    affine : bool
        Whether there are γ and β, one a channel.
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    weight, bias : Tensor of shape (C,), or None

    Raises
    ------
    ShapeError
        An input that is not (N, C, …).
    ArgumentError
        An argument outside its range.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.nn.GroupNorm(2, 4, eps=0.0)(tg.tensor([[1.0, 3.0, 0.0, 10.0]])).data
    array([[-1.,  1., -1.,  1.]])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: Any = np.float64,
    ) -> None:
        check_integers("GroupNorm", 1, num_groups=num_groups, num_channels=num_channels)
        divides = f"a multiple of num_groups={num_groups}"
        check_numbers(
            "GroupNorm", divides, lambda c: c % num_groups == 0, num_channels=num_channels
        )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = _check_eps("GroupNorm", eps)
        self.weight, self.bias = _scale_and_shift((num_channels,), affine, affine, dtype)

    def forward(self, x: Any) -> Any:
        """X of shape (N, C, …)."""
        shape = np.shape(x)
        if len(shape) < 2 or shape[1] != self.num_channels:
            raise ShapeError(
                f"GroupNorm: the input has shape (N, {self.num_channels}, …); received {shape}. "
                f"Does the layer belong to another one's output?"
            )
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"
