"""Functions under PyTorch's names and arguments: layers, normalisation, convolution, losses."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arrays import numbers
from ..checks import check_choice, check_integers, check_numbers, is_integer
from ..core.operand import Operand
from ..errors import ArgumentError, DtypeError, IndexingError, ShapeError, describe
from ..ops import activations, fused
from ..ops.elementwise import clip, log, tanh, where
from ..ops.fused import linear, sigmoid_binary_cross_entropy, standardize
from ..ops.reduction import max as max_
from ..ops.shape import getitem, moveaxis, pad, take_along_axis
from ..ops.windows import unfold

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "group_norm",
    "hardtanh",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]

relu, sigmoid = activations.relu, activations.sigmoid
leaky_relu, elu, selu = activations.leaky_relu, activations.elu, activations.selu
gelu, silu, hardtanh = activations.gelu, activations.silu, activations.hardtanh
logsigmoid = activations.log_sigmoid

Pair = int | tuple[int, ...]


def softplus(input: Any, beta: float = 1.0) -> Any:
    """Smooth rectifier log(1 + e^(βx))/β, elementwise.

    >>> import tinygrad_stab as tg
    >>> tg.nn.functional.softplus(tg.tensor([0.0]), beta=2.0)
    tensor([0.34657359])
    """
    check_numbers("softplus", "finite, above 0", lambda b: b > 0, beta=beta)
    return activations.softplus(input * beta) / beta


def softmax(input: Any, dim: int = -1) -> Any:
    """e^x/Σ e^x along an axis: see `tinygrad_stab.softmax`."""
    return fused.softmax(input, axis=dim)


def log_softmax(input: Any, dim: int = -1) -> Any:
    """Logarithm of the softmax along an axis: see `tinygrad_stab.log_softmax`."""
    return fused.log_softmax(input, axis=dim)


# --- normalisation


def layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Each example standardised over its last axes, then scaled and shifted (Ba et al. 2016).

    Parameters
    ----------
    input : Tensor or array of shape (…, *normalized_shape)
    normalized_shape : int or tuple of int
        The lengths of the last axes.
    weight, bias : Tensor or array of shape normalized_shape, optional
    eps : float

    Raises
    ------
    ShapeError
        The input does not end in ``normalized_shape``.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.nn.functional.layer_norm(tg.tensor([[1.0, 3.0], [5.0, 5.0]]), 2, eps=0.0001)
    tensor([[-0.99995,  0.99995],
            [ 0.     ,  0.     ]])
    """
    shape = tuple(int(n) for n in np.atleast_1d(normalized_shape))
    if np.shape(input)[-len(shape) :] != shape:
        raise ShapeError(
            f"layer_norm: the input ends in normalized_shape {shape}; received "
            f"{np.shape(input)}. Are the features the last axis?"
        )
    _check_vectors("layer_norm", shape, weight=weight, bias=bias)
    out = standardize(input, axis=tuple(range(-len(shape), 0)), eps=eps)
    return _scaled(out, weight, bias)


def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Each example's channels standardised group by group (Wu & He 2018).

    Parameters
    ----------
    input : Tensor or array of shape (N, C, …)
    num_groups : int
        Divides C.
    weight, bias : Tensor or array of shape (C,), optional
    eps : float

    Raises
    ------
    ShapeError
        ``num_groups`` does not divide the number of channels.
    """
    shape = np.shape(input)
    if len(shape) < 2 or num_groups < 1 or shape[1] % num_groups:
        raise ShapeError(
            f"group_norm: num_groups must divide the channels of (N, C, …); received "
            f"num_groups={num_groups}, input {shape}. Choose a divisor of C"
        )
    _check_vectors("group_norm", shape[1:2], weight=weight, bias=bias)
    groups = np.reshape(input, (shape[0], num_groups, math.prod(shape[1:]) // num_groups))
    out = np.reshape(standardize(groups, axis=-1, eps=eps), shape)
    return _scaled(out, *_by_channel(len(shape), weight, bias))


def batch_norm(
    input: Any,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Each channel standardised over the batch (Ioffe & Szegedy 2015, algorithm 1).

    Parameters
    ----------
    input : Tensor or array of shape (N, C, …)
    running_mean, running_var : ndarray of shape (C,), optional
        In training they are updated in place: r ← (1 − momentum)·r + momentum·(batch's), the
        variance unbiased. Otherwise they take the place of the batch's own.
    weight, bias : Tensor or array of shape (C,), optional
    training : bool
    momentum, eps : float

    Raises
    ------
    ShapeError
        In training, one value a channel: it has no variance.
    ArgumentError
        Neither training nor running statistics.
    """
    shape = np.shape(input)
    axes = (0, *range(2, len(shape)))
    count = math.prod(shape[a] for a in axes)
    if len(shape) < 2:
        raise ShapeError(f"batch_norm: the input has axes (N, C, …); received shape {shape}")
    _check_vectors(
        "batch_norm", shape[1:2], running_mean=running_mean, running_var=running_var,
        weight=weight, bias=bias,
    )  # fmt: skip
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError(
                "batch_norm: outside training it needs running_mean and running_var; received "
                "None. Pass both, or training=True"
            )
        mean, var = _by_channel(len(shape), running_mean, running_var)
        return _scaled((input - mean) / np.sqrt(var + eps), *_by_channel(len(shape), weight, bias))
    if count < 2:
        raise ShapeError(
            f"batch_norm: in training a channel needs more than one value to have a variance; "
            f"received shape {shape}. Use a larger batch, or eval()"
        )
    for running in (running_mean, running_var):
        if running is not None and not (
            isinstance(running, np.ndarray) and running.dtype.kind == "f"
        ):
            raise DtypeError(
                f"batch_norm: running statistics are updated in place, so they are arrays of "
                f"floats; received {describe(running)}. Keep them as ndarrays"
            )
    values = _values(input)
    out = standardize(input, axis=axes, eps=eps)
    for running, batch in (
        (running_mean, values.mean(axis=axes)),
        (running_var, values.var(axis=axes, ddof=1)),
    ):
        if running is not None:
            running += momentum * (batch - running)
    return _scaled(out, *_by_channel(len(shape), weight, bias))


def _check_vectors(what: str, shape: tuple[int, ...], **vectors: Any) -> None:
    """Refuse parameters of another shape, which broadcasting would let through."""
    for name, vector in vectors.items():
        if vector is not None and np.shape(vector) != shape:
            raise ShapeError(
                f"{what}: {name} has shape {shape}, one entry a feature; received "
                f"{np.shape(vector)}. Does it belong to another layer?"
            )


def _by_channel(ndim: int, *vectors: Any) -> list[Any]:
    """One number a channel, shaped to multiply (N, C, …)."""
    shape = (-1,) + (1,) * (ndim - 2)
    return [None if v is None else np.reshape(v, shape) for v in vectors]


def _scaled(x: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


# --- convolution and pooling


def per_axis(name: str, value: Any, least: int, axes: int = 2) -> tuple[int, ...]:
    """An integer for every axis of an image, or one each.

    >>> per_axis("stride", 2, 1), per_axis("stride", (2, 1), 1)
    ((2, 2), (2, 1))
    """
    each = tuple(value) if isinstance(value, tuple | list) else (value,) * axes
    if len(each) != axes or not all(is_integer(n, least) for n in each):
        pair = ", or a pair (along H, along W)" if axes == 2 else ""
        raise ArgumentError(
            f"{name} is an integer of at least {least}{pair}; received {name}={value!r:.60}"
        )
    return tuple(map(int, each))


def padding_widths(
    padding: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """How many zeros go before and after each axis of an image.

    "same" makes an output as large as the input; where their number is odd, the last is after.

    >>> padding_widths("same", (3, 4), (1, 1), (1, 1))
    [(1, 1), (1, 2)]
    """
    if padding == "valid":
        return [(0, 0) for _ in kernel]
    if padding == "same":
        if any(step != 1 for step in stride):
            raise ArgumentError(
                f'padding: "same" needs a stride of 1; received stride={tuple(stride)}. '
                f"Give the padding in numbers"
            )
        widths = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(width // 2, width - width // 2) for width in widths]
    if isinstance(padding, str):
        raise ArgumentError(f'padding: a word is "same" or "valid"; received {padding!r:.60}')
    return [(width, width) for width in per_axis("padding", padding, 0, len(kernel))]


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of images with kernels (LeCun et al. 1998), as one matrix product.

    out[n, o, y, x] = bias[o] + Σ_{c, i, j} weight[o, c, i, j]·input[n, c, y·stride + i·dilation, …]

    Parameters
    ----------
    input : Tensor or array of shape (N, C, H, W)
    weight : Tensor or array of shape (O, C/groups, KH, KW)
    bias : Tensor or array of shape (O,), optional
    stride, dilation : int or pair of int
        Along H and W.
    padding : int, pair of int, "same" or "valid"
        How many zeros go on both sides; "same": as many as keep H and W (with stride 1);
        "valid": none.
    groups : int
        Divides C and O; each group of outputs sees its own group of channels.

    Returns
    -------
    Tensor of shape (N, O, (H + 2·padding − dilation·(KH − 1) − 1)//stride + 1, …)

    Raises
    ------
    ShapeError
        Channels and kernels do not fit, or the kernel is larger than the padded image.
    ArgumentError
        A stride, padding, dilation or number of groups outside its range.
    """
    check_integers("conv2d", 1, groups=groups)
    shape, kernel = np.shape(input), np.shape(weight)
    if len(shape) != 4 or len(kernel) != 4 or shape[1] != kernel[1] * groups or kernel[0] % groups:
        raise ShapeError(
            f"conv2d: input (N, C, H, W) and weight (O, C/groups, KH, KW) must fit; received "
            f"input {shape}, weight {kernel}, groups={groups}. Check the channels"
        )
    strides, dilations = per_axis("stride", stride, 1), per_axis("dilation", dilation, 1)
    edges = padding_widths(padding, kernel[2:], strides, dilations)
    _check_vectors("conv2d", kernel[:1], bias=bias)
    if any(map(any, edges)):
        input = pad(input, [(0, 0), (0, 0), *edges])
    windows = unfold(input, kernel[2:], strides, dilations)  # (N, C, rows, columns, KH, KW)
    n, _, rows, columns = np.shape(windows)[:4]
    outputs, depth = kernel[0], math.prod(kernel[1:])
    # One product a group: (O/groups, C·KH·KW/groups) @ (C·KH·KW/groups, rows·columns·N). The batch
    # comes last in memory, so that NumPy's inner loops, here and in a pooling layer, are long ones.
    patches = np.transpose(windows, (1, 4, 5, 2, 3, 0))
    patches = np.reshape(patches, (groups, depth, rows * columns * n))
    kernels = np.reshape(weight, (groups, outputs // groups, depth))
    out = np.reshape(kernels @ patches, (outputs, rows, columns, n))
    out = np.transpose(out, (3, 0, 1, 2))
    return out if bias is None else out + np.reshape(bias, (-1, 1, 1))


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int = 1,
    padding: int | str = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of sequences (N, C, L) with kernels (O, C/groups, K); see `conv2d`."""
    if np.ndim(input) != 3 or np.ndim(weight) != 3:
        raise ShapeError(
            f"conv1d: input is (N, C, L), weight (O, C/groups, K); received {np.shape(input)}, "
            f"{np.shape(weight)}. Is an axis missing?"
        )
    out = conv2d(
        np.expand_dims(input, 2),
        np.expand_dims(weight, 2),
        bias,
        (1, *per_axis("stride", stride, 1, axes=1)),
        padding if isinstance(padding, str) else (0, *per_axis("padding", padding, 0, axes=1)),
        (1, *per_axis("dilation", dilation, 1, axes=1)),
        groups,
    )
    return out[:, :, 0]


def max_pool2d(
    input: Any, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1
) -> Any:
    """Largest value of each window of images (…, H, W); ties share the gradient equally.

    Parameters
    ----------
    input : Tensor or array
    kernel_size, stride, padding, dilation : int or pair of int
        The stride is the kernel size if None; padding never wins.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.max_pool2d(tg.tensor(np.arange(16.0).reshape(1, 1, 4, 4)), 2)
    tensor([[[[ 5.,  7.],
              [13., 15.]]]])
    """
    size, strides, edge = pooling_window(kernel_size, stride, padding)
    windows = unfold(
        _padded(input, edge, -np.inf), size, strides, per_axis("dilation", dilation, 1)
    )
    return max_(windows, axis=(-2, -1))


def avg_pool2d(input: Any, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Any:
    """Mean of each window of images (…, H, W), zeros of the padding included.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.avg_pool2d(tg.tensor(np.arange(16.0).reshape(1, 1, 4, 4)), 2)
    tensor([[[[ 2.5,  4.5],
              [10.5, 12.5]]]])
    """
    size, strides, edge = pooling_window(kernel_size, stride, padding)
    windows = unfold(_padded(input, edge, 0.0), size, strides)
    return np.mean(windows, axis=(-2, -1))


def pooling_window(
    kernel_size: Any, stride: Any, padding: Any
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Size, stride and padding of pooling windows, as pairs; the stride is the size if None.

    >>> pooling_window(3, None, 1)
    ((3, 3), (3, 3), (1, 1))
    """
    size = per_axis("kernel_size", kernel_size, 1)
    edge = per_axis("padding", padding, 0)
    if any(2 * p > k for p, k in zip(edge, size, strict=True)):
        raise ArgumentError(
            f"padding: is at most half the kernel, so that no window lies in it alone; received "
            f"{padding} for kernel_size={kernel_size}"
        )
    return size, size if stride is None else per_axis("stride", stride, 1), edge


def _padded(input: Any, padding: tuple[int, ...], value: float) -> Any:
    if padding == (0, 0):
        return input
    widths = [(0, 0)] * (np.ndim(input) - 2) + [(padding[0],) * 2, (padding[1],) * 2]
    padded = pad(input, widths)
    if value == 0:
        return padded
    inside = np.pad(np.ones(np.shape(input), bool), widths)
    return where(inside, padded, value)  # −inf added to a number would do, 0·inf would not


# --- look-up and noise


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """Rows of a table by their numbers; a row that is asked for twice gets both gradients.

    Parameters
    ----------
    input : array_like of int, any shape
    weight : Tensor or array of shape (V, D)
    padding_idx : int, optional
        A row that gets no gradient.

    Returns
    -------
    Tensor of shape (*input.shape, D)

    Raises
    ------
    DtypeError, IndexingError
        Not integers; a number outside 0 … V − 1.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> table = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> tg.nn.functional.embedding([0, 0, 1], table, padding_idx=1).sum().backward()
    >>> table.grad
    array([[2., 2.],
           [0., 0.]])
    """
    index = np.asarray(input)
    rows = np.shape(weight)[0]
    if index.dtype.kind not in "iu":
        raise DtypeError(f"embedding: rows are numbered by integers; received {index.dtype}")
    if index.size and not 0 <= index.min() <= index.max() < rows:
        raise IndexingError(
            f"embedding: rows are numbered 0 to {rows - 1}; received {index.min()} to "
            f"{index.max()}. Count from 0, or make the table larger"
        )
    out = getitem(weight, index)
    if padding_idx is None:
        return out
    check_integers("embedding", 0, padding_idx=padding_idx)
    padding = np.expand_dims(index == padding_idx, -1)
    return where(padding, _values(out), out)


def _values(x: Any) -> Any:
    """The numbers alone, without what they were computed from."""
    return x._value if isinstance(x, Operand) else np.asarray(x)


def dropout(
    input: Any, p: float = 0.5, training: bool = True, rng: np.random.Generator | int | None = None
) -> Any:
    """In training, each element set to 0 with probability p, the others divided by 1 − p.

    Srivastava et al. 2014, in the "inverted" form that leaves evaluation alone.

    Parameters
    ----------
    input : Tensor or array
    p : float
        From 0 to 1; at 1 everything is 0.
    training : bool
        False: the identity.
    rng : numpy.random.Generator, int or None
        Where the mask comes from.

    Raises
    ------
    ArgumentError
        p outside [0, 1].
    """
    check_numbers("dropout", "a probability, from 0 to 1", lambda p: 0 <= p <= 1, p=p)
    if not training or p == 0:
        return input
    kept = np.random.default_rng(rng).random(np.shape(input)) >= p
    return input * (kept.astype(input.dtype) * (1 / (1 - p) if p < 1 else 0.0))


# --- losses

_REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "mean": np.mean,
    "sum": np.sum,
    "none": lambda losses: losses,
}


def check_reduction(reduction: str, known: Sequence[str] = tuple(_REDUCTIONS)) -> None:
    """Refuse an unknown way to reduce a loss, before anything is computed with it."""
    check_choice("loss", known, reduction=reduction)


def _floats(x: Any) -> Any:
    """A tensor as it is; else an array, in which integers become floats."""
    if isinstance(x, Operand):
        return x
    array = numbers(x)
    return array if array.dtype.kind in "fc" else array.astype(float)


def _reduce(losses: Any, reduction: str) -> Any:
    check_reduction(reduction)
    return _REDUCTIONS[reduction](losses)


def _weights(name: str, weight: Any, losses: Any) -> Any:
    """Weights that broadcast to the shape of losses, in their dtype: they widen neither."""
    weight = numbers(weight, losses.dtype)
    try:
        fits = np.broadcast_shapes(weight.shape, losses.shape) == losses.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"{name}: broadcasts to the shape of the input, {losses.shape}; received "
            f"{weight.shape}. Does it belong to another batch?"
        )
    return weight


def _same_shape(loss: str, input: Any, target: Any) -> tuple[Any, Any]:
    """Input and target as tensors or arrays, if their shapes are the same."""
    input = _floats(input)
    if not isinstance(target, Operand | np.ndarray) or target.dtype.kind in "iub":
        target = numbers(target, input.dtype)  # numbers as such do not widen float32
    if np.shape(input) != np.shape(target):
        raise ShapeError(
            f"{loss}: input and target must have the same shape, without broadcasting "
            f"(input: {np.shape(input)}, target: {np.shape(target)}). "
            f"Add or remove an axis: target[:, None], input[:, 0]"
        )
    return input, target


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Squared error, (input − target)²; its gradient is 2·(input − target).

    Parameters
    ----------
    input, target : Tensor or array
        Of the same shape.
    reduction : {"mean", "sum", "none"}

    Raises
    ------
    ShapeError
        Shapes differ, even where they would broadcast.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.mse_loss(tg.tensor([1.0, 4.0]), np.array([1.0, 2.0]))
    tensor(2.)
    """
    input, target = _same_shape("mse_loss", input, target)
    difference = input - target
    return _reduce(difference * difference, reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Absolute error, |input − target|; derivative 0 where they are equal."""
    input, target = _same_shape("l1_loss", input, target)
    return _reduce(abs(input - target), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """Squared near 0, absolute beyond: ½d² for |d| ≤ δ, else δ·(|d| − ½δ) (Huber 1964).

    Value and derivative are continuous at |d| = δ.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.huber_loss(tg.tensor([0.5, 3.0]), np.zeros(2), reduction="none")
    tensor([0.125, 2.5  ])
    """
    input, target = _same_shape("huber_loss", input, target)
    check_numbers("huber_loss", "finite, above 0", lambda d: d > 0, delta=delta)
    d = input - target
    near = clip(d, -delta, delta)
    return _reduce(near * (d - 0.5 * near), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """Huber's loss divided by β: slope ±1 beyond β; with β = 0 the absolute error."""
    check_numbers("smooth_l1_loss", "finite, at least 0", lambda b: b >= 0, beta=beta)
    if beta == 0:
        return l1_loss(input, target, reduction)
    return huber_loss(input, target, reduction, beta) / beta


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy of softmax(input) with a target.

    Parameters
    ----------
    input : Tensor or array of shape (C,), (N, C) or (N, C, d1, …)
        Logits, any real numbers.
    target : array_like
        Classes 0 … C − 1 as integers, of the input's shape without C; or distributions of the
        input's shape.
    weight : array_like of shape (C,), optional
        Of each class; a mean divides by the sum of the weights used.
    ignore_index : int
        Targets of this class count for nothing.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float
        The target becomes (1 − ε)·target + ε/C (Szegedy et al. 2016, §7).

    Raises
    ------
    IndexingError
        A class outside 0 … C − 1.
    ShapeError, DtypeError
        A target of another shape, or classes that are not integers.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.cross_entropy(tg.tensor([[0.0, 0.0]]), np.array([1]))
    tensor(0.69314718)
    """
    check_numbers(
        "cross_entropy", "from 0 to 1", lambda e: 0 <= e <= 1, label_smoothing=label_smoothing
    )
    check_reduction(reduction)
    input = _floats(input)
    target = target if isinstance(target, Operand) else numbers(target)
    if np.ndim(input) > 2:
        if np.ndim(target) == np.ndim(input):
            target = moveaxis(target, 1, -1)
        input = moveaxis(input, 1, -1)
    by_class = np.shape(target) != np.shape(input)
    if not by_class and np.ndim(input) and target.dtype.kind != "f":
        raise DtypeError(
            f"cross_entropy: a target of the logits' shape {np.shape(input)} is a distribution of "
            f"floats; received {target.dtype}. Convert it, or pass one class an example"
        )
    kept = None
    if by_class and np.any(target == ignore_index):
        kept = np.asarray(target) != ignore_index
        target = np.where(kept, target, 0)
    losses = fused.softmax_cross_entropy(input, target)  # checks shapes, types and classes
    if kept is not None:  # selected away, for what is to be ignored may be NaN
        losses = where(kept, losses, 0.0)
    if weight is None and kept is None and label_smoothing == 0:
        return _reduce(losses, reduction)

    classes = np.shape(input)[-1]
    _check_vectors("cross_entropy", (classes,), weight=weight)
    weights = np.ones(classes, input.dtype) if weight is None else np.asarray(weight, input.dtype)
    if by_class:
        # One weight an example, that of its class; 0 for those to ignore.
        used = weights[np.asarray(target)] * (1 if kept is None else kept)
        losses = used * losses
        total = np.sum(used)
    else:
        losses = -np.sum(fused.log_softmax(input) * (target * weights), axis=-1)
        total = max(np.size(losses), 1)
    if label_smoothing:
        spread = np.sum(fused.log_softmax(input) * weights, axis=-1)
        if kept is not None:
            spread = where(kept, spread, 0.0)
        losses = (1 - label_smoothing) * losses - (label_smoothing / classes) * spread
    if reduction == "mean":
        return _weighted_mean(losses, total)
    return _reduce(losses, reduction)


def _weighted_mean(losses: Any, total: float) -> Any:
    """Σ losses / total; of nothing NaN, but with gradient 0, which does no harm."""
    summed = np.sum(losses)
    return where(False, summed, np.nan) if total == 0 else summed / total


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """−input[n, target[n]], for log-probabilities of shape (C,), (N, C) or (N, C, d1, …).

    Parameters and errors are those of :func:`cross_entropy`; targets are classes.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.nll_loss(tg.tensor([[-1.0, -2.0]]), np.array([1]))
    tensor(2.)
    """
    input, target = _floats(input), np.asarray(target)
    shape = np.shape(input)
    if np.ndim(input) > 2:
        input = moveaxis(input, 1, -1)
    if not shape or target.shape != np.shape(input)[:-1]:
        raise ShapeError(
            f"nll_loss: input is (C,) or (N, C, …), target holds its shape without C (input: "
            f"{shape}, target: {target.shape}). Is axis 1 of the input that of the classes?"
        )
    classes = np.shape(input)[-1]
    if target.dtype.kind not in "iu":
        raise DtypeError(f"nll_loss: classes are integers; received {target.dtype}")
    kept = target != ignore_index
    classed = np.where(kept, target, 0)
    if classed.size and not 0 <= classed.min() <= classed.max() < classes:
        raise IndexingError(
            f"nll_loss: classes are numbered 0 to {classes - 1}; target holds {classed.min()} to "
            f"{classed.max()}. Count classes from 0"
        )
    _check_vectors("nll_loss", (classes,), weight=weight)
    used = kept * (np.ones(classes) if weight is None else np.asarray(weight))[classed]
    used = used.astype(input.dtype)
    picked = take_along_axis(input, classed[..., None], axis=-1)[..., 0]
    losses = where(kept, picked * -used, 0.0)
    if reduction == "mean":
        return _weighted_mean(losses, np.sum(used))
    return _reduce(losses, reduction)


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Any:
    """−t·log p − (1 − t)·log(1 − p), for probabilities p.

    Logarithms are cut at −100, with gradient 0 beyond.

    From logits use :func:`binary_cross_entropy_with_logits`, which loses nothing near 0 and 1.

    Raises
    ------
    ShapeError
        Shapes differ, even where they would broadcast.
    ArgumentError
        An input outside [0, 1].

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.binary_cross_entropy(tg.tensor([0.5]), np.array([1.0]))
    tensor(0.69314718)
    """
    input, target = _same_shape("binary_cross_entropy", input, target)
    if np.any(input < 0) or np.any(input > 1):
        raise ArgumentError(
            "binary_cross_entropy: inputs are probabilities, from 0 to 1; received others. "
            "For logits use binary_cross_entropy_with_logits"
        )
    smallest = math.exp(-100)
    hit, miss = log(clip(input, smallest)), log(clip(1 - input, smallest))
    losses = -(target * hit + (1 - target) * miss)
    if weight is not None:
        losses = losses * _weights("weight", weight, losses)
    return _reduce(losses, reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Cross-entropy of sigmoid(input) with a target probability, elementwise.

    Parameters
    ----------
    input, target : Tensor or array
        Logits, and probabilities of the same shape.
    weight : array_like, optional
        Of each element; broadcasts.
    reduction : {"mean", "sum", "none"}
    pos_weight : array_like, optional
        Of the positive class; broadcasts.

    Raises
    ------
    ShapeError
        Shapes differ, even where they would broadcast.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.functional.binary_cross_entropy_with_logits(tg.tensor([0.0]), np.array([1.0]))
    tensor(0.69314718)
    """
    input, target = _same_shape("binary_cross_entropy_with_logits", input, target)
    losses = sigmoid_binary_cross_entropy(input, target)
    if pos_weight is not None:  # −(w − 1)·t·log σ(x) more
        more = _weights("pos_weight", pos_weight, losses) - 1
        losses = losses + more * (target * activations.softplus(-input))
    if weight is not None:
        losses = losses * _weights("weight", weight, losses)
    return _reduce(losses, reduction)


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """Kullback–Leibler divergence t·(log t − input), elementwise; 0 where t is 0.

    Parameters
    ----------
    input : Tensor or array
        Log-probabilities.
    target : Tensor or array
        Probabilities of the same shape (log-probabilities if ``log_target``).
    reduction : {"mean", "batchmean", "sum", "none"}
        "batchmean", the divergence itself, divides the sum by the first length.
    log_target : bool

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> p = np.array([[0.5, 0.5]])
    >>> tg.nn.functional.kl_div(tg.tensor(np.log([[0.25, 0.75]])), p, reduction="batchmean")
    tensor(0.14384104)
    """
    check_reduction(reduction, [*_REDUCTIONS, "batchmean"])
    input, target = _same_shape("kl_div", input, target)
    if log_target:
        losses = np.exp(target) * (target - input)
    else:
        safe = where(target > 0, target, 1.0)
        losses = target * (log(safe) - input)
    if reduction == "batchmean":
        return np.sum(losses) / (len(input) if np.ndim(input) else 1)
    return _reduce(losses, reduction)
