"""Convolution and pooling: layers of images, whose units each see a window."""

import math
from typing import Any

import numpy as np

from ..checks import check_integers
from ..errors import ArgumentError
from . import functional, init
from .functional import Pair, padding_widths, per_axis, pooling_window
from .module import Module


class _Convolution(Module):
    """What convolutions have in common, whatever the number of axes after (N, C)."""

    _axes: int
    _function: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: init.Rng = None,
        dtype: Any = np.float64,
    ) -> None:
        name, axes = type(self).__name__, self._axes
        check_integers(name, 1, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{name}: groups divides in_channels and out_channels; received groups={groups}, "
                f"in_channels={in_channels}, out_channels={out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_axis("kernel_size", kernel_size, 1, axes)
        self.stride = per_axis("stride", stride, 1, axes)
        self.dilation = per_axis("dilation", dilation, 1, axes)
        padding_widths(
            padding, self.kernel_size, self.stride, self.dilation
        )  # refuses what does not fit
        self.padding = (
            padding if isinstance(padding, str) else per_axis("padding", padding, 0, axes)
        )
        self.groups = groups
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = 1 / math.sqrt(math.prod(shape[1:]))  # 1/√(numbers that an output sums)
        rng = np.random.default_rng(rng)
        self.weight = init.uniform_(init.empty(shape, dtype, "weight"), -bound, bound, rng)
        self.bias = None
        if bias:
            self.bias = init.empty((out_channels,), dtype, "bias")
            init.uniform_(self.bias, -bound, bound, rng)

    def forward(self, x: Any) -> Any:
        """Slide the kernels over x."""
        return type(self)._function(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding!r}, bias={self.bias is not None}"
        )


class Conv2d(_Convolution):
    """Cross-correlation of images (N, C, H, W) with learnt kernels.

    out[n, o, y, x] = bias[o] + Σ_{c, i, j} weight[o, c, i, j]·input[n, c, y·stride + i·dilation, …]

    Each output sees a window, and all windows share the weights (LeCun et al. 1998,
    "Gradient-Based Learning Applied to Document Recognition", §II.A). So ∂L/∂weight is a sum over
    all windows, and a pixel's gradient one over all windows that it is in.

    Parameters
    ----------
    in_channels, out_channels : int
        C of the input and of the output.
    kernel_size : int or pair of int
        Along H and W.
    stride, dilation : int or pair of int
        Steps between windows, and between a window's pixels.
    padding : int, pair of int, "same" or "valid"
        Zeros on both sides; "same" keeps H and W (with stride 1), "valid" is 0.
    groups : int
        Divides both numbers of channels; each group of outputs sees its own group of inputs.
    bias : bool
    rng : numpy.random.Generator, int or None
        Weights and bias are uniform in ±1/√fan_in, fan_in = C/groups·KH·KW, as PyTorch's.
    dtype : dtype
        Of the parameters: float64 or float32.

    Attributes
    ----------
    weight : Tensor of shape (out_channels, in_channels/groups, KH, KW)
    bias : Tensor of shape (out_channels,), or None

    Raises
    ------
    ShapeError
        Another number of axes or channels, or images smaller than a kernel.
    ArgumentError
        An argument outside its range.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.Conv2d(1, 6, 5, padding=2, rng=0)(np.ones((32, 1, 28, 28))).shape
    (32, 6, 28, 28)
    """

    _axes = 2
    _function = staticmethod(functional.conv2d)


class Conv1d(_Convolution):
    """Cross-correlation of sequences (N, C, L) with learnt kernels; see :class:`Conv2d`.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.Conv1d(3, 8, 5, stride=2, rng=0)(np.ones((32, 3, 21))).shape
    (32, 8, 9)
    """

    _axes = 1
    _function = staticmethod(functional.conv1d)


class _Pooling(Module):
    """What pooling layers have in common: windows."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        window = pooling_window(kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = window

    def extra_repr(self) -> str:
        """Sizes."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_Pooling):
    """Mean of each window of images (…, H, W), zeros of the padding included.

    Every pixel of a window of n gets 1/n of its gradient (LeCun et al. 1998, §II.A).

    Parameters
    ----------
    kernel_size, stride, padding : int or pair of int
        The stride is the kernel size if None.

    Raises
    ------
    ArgumentError
        An argument outside its range; a padding above half the kernel.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.nn.AvgPool2d(2)(tg.tensor([[[1.0, 2.0], [3.0, 6.0]]]))
    tensor([[[3.]]])
    """

    def forward(self, x: Any) -> Any:
        """(…, H, W) → (…, rows, columns)."""
        return functional.avg_pool2d(x, self.kernel_size, self.stride, self.padding)


class MaxPool2d(_Pooling):
    """Largest value of each window of images (…, H, W), which alone gets the gradient.

    Where several are largest, they share it equally (Zhou & Chellappa 1988).

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or pair of int
        The stride is the kernel size if None; padding never wins.

    Raises
    ------
    ArgumentError
        An argument outside its range; a padding above half the kernel.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.nn.MaxPool2d(2)(tg.tensor([[[1.0, 2.0], [3.0, 6.0]]]))
    tensor([[[6.]]])
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        self.dilation = per_axis("dilation", dilation, 1)

    def forward(self, x: Any) -> Any:
        """(…, H, W) → (…, rows, columns)."""
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation)
