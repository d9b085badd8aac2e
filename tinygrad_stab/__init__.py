"""tinygrad_stab: backpropagation that can be seen, proved and reproduced.

>>> import tinygrad_stab as tg
>>> x = tg.tensor(3.0, requires_grad=True)
>>> (x * x).backward()
>>> x.grad
array(6.)
"""

from . import datasets, diagnostics, domain, errors, inspection, nn, optim
from .core.backward import graph
from .core.functional import grad, hessian, jacobian, jvp, value_and_grad, vjp
from .core.mode import enable_grad, no_grad
from .core.operand import implements
from .core.primitive import REGISTRY, Primitive, primitive
from .core.symbol import Symbol
from .core.tensor import Tensor, tensor
from .ops.arithmetic import (
    add,
    divide,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    positive,
    power,
    subtract,
)
from .ops.elementwise import abs, cos, exp, log, relu, sigmoid, sign, sin, sqrt, tanh, where
from .ops.fused import linear, sigmoid_binary_cross_entropy, softmax_cross_entropy
from .ops.linalg import dot, matmul
from .ops.reduction import max, mean, min, sum
from .ops.shape import (
    astype,
    broadcast_to,
    concatenate,
    expand_dims,
    getitem,
    reshape,
    scatter,
    stack,
    swapaxes,
    transpose,
)

__all__ = [
    "REGISTRY",
    "Primitive",
    "Symbol",
    "Tensor",
    "abs",
    "add",
    "astype",
    "broadcast_to",
    "concatenate",
    "cos",
    "datasets",
    "diagnostics",
    "divide",
    "domain",
    "dot",
    "enable_grad",
    "equal",
    "errors",
    "exp",
    "expand_dims",
    "getitem",
    "grad",
    "graph",
    "greater",
    "greater_equal",
    "hessian",
    "implements",
    "inspection",
    "jacobian",
    "jvp",
    "less",
    "less_equal",
    "linear",
    "log",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "nn",
    "no_grad",
    "not_equal",
    "optim",
    "positive",
    "power",
    "primitive",
    "relu",
    "reshape",
    "scatter",
    "sigmoid",
    "sigmoid_binary_cross_entropy",
    "sign",
    "sin",
    "softmax_cross_entropy",
    "sqrt",
    "stack",
    "subtract",
    "sum",
    "swapaxes",
    "tanh",
    "tensor",
    "transpose",
    "value_and_grad",
    "vjp",
    "where",
]
