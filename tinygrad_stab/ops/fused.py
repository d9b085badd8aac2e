"""What networks are made of, each as one node: fewer temporaries, and stable where parts are not.

These are ordinary records with longer rules.
"""

import math
from functools import lru_cache

import numpy as np

from ..core.primitive import primitive
from ..domain import PROBABILITY, REALS, Integers, case
from ..errors import DtypeError, IndexingError, ShapeError
from .activations import sigmoid


def _linear_forward(x, weight, bias=None):
    try:
        out = np.dot(x, weight.T)  # costs less than @ on small matrices
    except ValueError:
        out = np.empty(())
    if out.ndim != x.ndim or weight.ndim != 2:
        raise ShapeError(
            f"linear: x has {x.shape[-1] if x.ndim else 'no'} features but weight expects "
            f"{weight.shape[-1] if weight.ndim else 'a matrix'} "
            f"(x: {x.shape}, weight: {weight.shape}). Did you forget to flatten x, or is weight "
            f"not (out_features, in_features)?"
        )
    if bias is None:
        return out
    if bias.shape != out.shape[-1:]:
        raise ShapeError(
            f"linear: bias needs one entry an output feature "
            f"(bias: {bias.shape}, weight: {weight.shape}). Its shape is (out_features,)"
        )
    if out.dtype is not bias.dtype:
        return out + bias
    out += bias
    return out


def _linear_x(g, out, x, weight, bias=None):
    return np.dot(g, weight)


def _linear_weight(g, out, x, weight, bias=None):
    if g.ndim != 2:
        g, x = _rows(g), _rows(x)
    return g.T @ x  # np.dot would first fill the result, as large as the weights, with zeros


def _linear_bias(g, out, x, weight, bias=None):
    if g.ndim != 2:
        g = _rows(g)
    return np.dot(_ones(len(g), g.dtype), g)


def _rows(x):
    """All leading axes as one: a batch of rows."""
    return np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


@lru_cache
def _ones(n, dtype):
    """A row of ones: its product with a batch is the sum over the batch, faster than np.sum."""
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


linear = primitive(
    "linear",
    _linear_forward,
    _linear_x,
    _linear_weight,
    _linear_bias,
    doc="""
    A layer of weights: x Wᵀ + b.

    x has shape (…, in_features), weight (out_features, in_features), bias (out_features,) or
    None; the result (…, out_features). With g = ∂L/∂out: ∂L/∂x = g W, ∂L/∂W = gᵀ x and
    ∂L/∂b = 1ᵀ g, the sum over the batch.

    >>> import tinygrad_stab as tg
    >>> import numpy as np
    >>> tg.linear(np.array([1.0, 2.0]), np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 10.0]))
    array([ 1., 13.])
    """,
    cases=(
        case((5, 3), (4, 3), (4,)),
        case((5, 3), (4, 3)),
        case((3,), (4, 3), (4,)),
        case((2, 5, 3), (4, 3), (4,)),
        case((0, 3), (4, 3), (4,)),
    ),
)


def _log_softmax_forward(x, axis=-1):
    top = np.max(x.real, axis=axis, keepdims=True, initial=-np.inf)
    x = x - np.where(np.isfinite(top), top, 0)
    return x - np.log(np.sum(np.exp(x), axis=axis, keepdims=True))


log_softmax = primitive(
    "log_softmax",
    _log_softmax_forward,
    lambda g, out, x, axis=-1: g - np.exp(out) * np.sum(g, axis=axis, keepdims=True),
    doc="""
    log(softmax(x)) along an axis, exact where the softmax itself underflows; −inf masks.

    >>> import tinygrad_stab as tg
    >>> tg.log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """,
    cases=(case((3, 4)), case((3, 4), axis=0), case((4,)), case((0, 4))),
    method=True,
)


def _softmax_forward(x, axis=-1):
    top = np.max(x.real, axis=axis, keepdims=True, initial=-np.inf)
    e = np.exp(x - np.where(np.isfinite(top), top, 0))
    return e / np.sum(e, axis=axis, keepdims=True)


softmax = primitive(
    "softmax",
    _softmax_forward,
    lambda g, out, x, axis=-1: out * (g - np.sum(g * out, axis=axis, keepdims=True)),
    doc="""
    e^x/Σ e^x along an axis: positive numbers that sum to 1; −inf masks.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.softmax([1000.0, 1000.0, -np.inf])
    array([0.5, 0.5, 0. ])
    """,
    cases=(case((3, 4)), case((3, 4), axis=0), case((4,)), case((0, 4))),
    method=True,
)


def _standardize_forward(x, axis, eps=1e-5):
    d = x - np.mean(x, axis=axis, keepdims=True)
    return d / np.sqrt(np.mean(d * d, axis=axis, keepdims=True) + eps)


def _standardize_rule(g, out, x, axis, eps=1e-5):
    # What a common shift or a common scale of x would change, normalisation takes out again.
    g = g - np.mean(g, axis=axis, keepdims=True) - out * np.mean(g * out, axis=axis, keepdims=True)
    return g / np.sqrt(np.var(x, axis=axis, keepdims=True) + eps)


standardize = primitive(
    "standardize",
    _standardize_forward,
    _standardize_rule,
    doc="""
    (x − mean)/√(variance + eps) over the given axes: the core of batch, layer and group norm.

    With g = ∂L/∂out: ∂L/∂x = (g − mean(g) − out·mean(g·out))/√(variance + eps) (Ioffe & Szegedy
    2015, §3). eps keeps a constant row finite.

    >>> import tinygrad_stab as tg
    >>> tg.standardize([1.0, 3.0], axis=0, eps=0.0)
    array([-1.,  1.])
    """,
    cases=(case((3, 4), axis=-1), case((5, 3), axis=0), case((4, 3, 2), axis=(0, 2), eps=0.1)),
)


def _softmax_cross_entropy_forward(logits, target):
    if logits.ndim == 0 or target.shape not in (logits.shape, logits.shape[:-1]):
        raise ShapeError(
            f"softmax_cross_entropy: target holds a class for each row of logits, or a "
            f"distribution of the logits' shape (logits: {logits.shape}, target: {target.shape}). "
            f"Is an axis of length 1 too many, or one of them not the batch that goes with it?"
        )
    if target.ndim == logits.ndim:
        return -np.sum(target * _log_softmax_forward(logits), axis=-1)
    if target.dtype.kind not in "iu":
        raise DtypeError(
            f"softmax_cross_entropy: classes are integers (target: {target.dtype} of shape "
            f"{target.shape}). Convert with .astype(int), or pass a distribution over the classes"
        )
    classes = logits.shape[-1]
    if target.size and not 0 <= target.min() <= target.max() < classes:
        raise IndexingError(
            f"softmax_cross_entropy: classes are numbered 0 to {classes - 1}, as many as logits "
            f"has columns; target holds {target.min()} to {target.max()}. "
            f"Count classes from 0, or widen the last layer"
        )
    picked = np.take_along_axis(_log_softmax_forward(logits), np.expand_dims(target, -1), axis=-1)
    return -picked[..., 0]


def _cross_entropy_logits(g, out, logits, target):
    p = softmax(logits)
    if target.ndim == logits.ndim:  # a distribution, which need not sum to 1
        p = p * np.sum(target, axis=-1, keepdims=True)
    else:
        target = np.expand_dims(target, -1) == np.arange(logits.shape[-1])
    return np.expand_dims(g, -1) * (p - target)


def _cross_entropy_target(g, out, logits, target):
    return np.expand_dims(g, -1) * -log_softmax(logits)


softmax_cross_entropy = primitive(
    "softmax_cross_entropy",
    _softmax_cross_entropy_forward,
    _cross_entropy_logits,
    _cross_entropy_target,
    doc="""
    Cross-entropy of softmax(logits) with a target, one number a row: −Σ_c t_c·log p_c.

    logits has shape (…, C). target is either classes, integers of shape (…), or a distribution of
    shape (…, C). The result has shape (…). The gradient in the logits is p − t, bounded: nothing
    saturates, and logits of ±1e4 are safe, for the largest is subtracted first.

    Raises IndexingError for a class outside 0 … C − 1.

    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.softmax_cross_entropy(np.array([[1e4, 0.0], [0.0, 0.0]]), np.array([1, 0]))
    array([1.00000000e+04, 6.93147181e-01])
    """,
    domain=(REALS, Integers(0, 4)),
    cases=(
        case((5, 4), (5,)),
        case((4,), ()),
        case((2, 3, 4), (2, 3)),
        case((5, 4), (5, 4), domain=(REALS, PROBABILITY)),
        case((0, 4), (0,)),
    ),
)


def _binary_cross_entropy_forward(logits, target):
    # max(x, 0) − x·t + log(1 + e^−|x|), with |x| = 2·max(x, 0) − x
    top = np.where(logits.real > 0, logits, 0)
    return top - logits * target + np.log1p(np.exp(logits - 2 * top))


sigmoid_binary_cross_entropy = primitive(
    "sigmoid_binary_cross_entropy",
    _binary_cross_entropy_forward,
    lambda g, out, logits, target: g * (sigmoid(logits) - target),
    lambda g, out, logits, target: -g * logits,
    doc="""
    Cross-entropy of sigmoid(logits) with a target probability, elementwise.

    −t·log σ(x) − (1 − t)·log(1 − σ(x)), computed as max(x, 0) − x·t + log(1 + e^−|x|), which is
    finite for any finite x. The gradient in the logits is σ(x) − t.

    >>> import tinygrad_stab as tg, numpy as np
    >>> tg.sigmoid_binary_cross_entropy(np.array([1000.0, -1000.0]), np.array([0.0, 0.0]))
    array([1000.,    0.])
    """,
    domain=(REALS, PROBABILITY),
)
