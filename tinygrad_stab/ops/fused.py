"""What networks are made of, each as one node: fewer temporaries, and stable where parts are not.

These are ordinary records with longer rules.
"""

from functools import lru_cache

import numpy as np

from ..core.primitive import primitive
from ..domain import PROBABILITY, REALS, Integers, case
from ..errors import DtypeError, IndexingError, ShapeError
from .elementwise import sigmoid


def _linear_forward(x, weight, bias=None):
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: x has {x.shape[-1] if x.ndim else 'no'} features but weight expects "
            f"{weight.shape[-1] if weight.ndim else 'a matrix'} "
            f"(x: {x.shape}, weight: {weight.shape}). Did you forget to flatten x, or is weight "
            f"not (out_features, in_features)?"
        )
    out = np.dot(x, weight.T)  # costs less than @ on small matrices
    if bias is None:
        return out
    if bias.shape != (len(weight),):
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
    return np.dot(g.T, x)


def _linear_bias(g, out, x, weight, bias=None):
    if g.ndim != 2:
        g = _rows(g)
    return np.dot(_ones(len(g), g.dtype), g)


def _rows(x):
    """All leading axes as one: a batch of rows."""
    return np.reshape(x, (-1, x.shape[-1]))


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


def _log_softmax(z):
    z = z - np.max(z.real, axis=-1, keepdims=True)
    return z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))


def _softmax(z):
    e = np.exp(z - np.max(z, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def _probabilities(target, logits):
    """The target as a distribution over the classes."""
    if target.ndim == logits.ndim:
        return target
    return np.expand_dims(target, -1) == np.arange(logits.shape[-1])


def _softmax_cross_entropy_forward(logits, target):
    if logits.ndim == 0 or target.shape not in (logits.shape, logits.shape[:-1]):
        raise ShapeError(
            f"softmax_cross_entropy: target holds a class for each row of logits, or a "
            f"distribution of the logits' shape (logits: {logits.shape}, target: {target.shape}). "
            f"Is an axis of length 1 too many, or one of them not the batch that goes with it?"
        )
    if target.ndim == logits.ndim:
        return -np.sum(target * _log_softmax(logits), axis=-1)
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
    picked = np.take_along_axis(_log_softmax(logits), np.expand_dims(target, -1), axis=-1)
    return -picked[..., 0]


def _cross_entropy_logits(g, out, logits, target):
    rest = _softmax(logits)
    target = _probabilities(target, logits)
    if target.dtype.kind == "f":  # a distribution need not sum to 1
        rest = rest * np.sum(target, axis=-1, keepdims=True)
    return np.expand_dims(g, -1) * (rest - target)


def _cross_entropy_target(g, out, logits, target):
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    log_total = np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return np.expand_dims(g, -1) * (log_total - shifted)


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
