"""Layers: linear maps and what reshapes, looks up or drops."""

import math
from typing import Any

import numpy as np

from ..checks import check_integers, check_numbers
from ..core.tensor import Tensor
from ..errors import ArgumentError, IndexingError
from ..ops.fused import linear
from ..ops.shape import reshape
from . import functional, init
from .module import Module

# A layer makes tensors whatever it is given, so it goes straight to their `apply`, which takes a
# third less time than the general call of a primitive.
_call: Any = Tensor.apply
_NONE: dict[str, Any] = {}


class Linear(Module):
    """y = x Wᵀ + b.

    Initialised as PyTorch does, W and b uniform in ±1/√in_features, which gives W a variance of
    1/(3·in_features): too small for deep nets (Glorot & Bengio 2010, §4.2.1); see `nn.init`.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the last axis of x and of y.
    bias : bool
        Whether there is a b.
    rng : numpy.random.Generator, int or None
        Where the weights come from. Pass one Generator to all layers: equal seeds give layers of
        equal shape equal weights.
    dtype : dtype
        Of the weights: float64 or float32.

    Attributes
    ----------
    weight : Tensor of shape (out_features, in_features)
    bias : Tensor of shape (out_features,), or None

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.Linear(64, 10, rng=0)(np.ones((32, 64))).shape
    (32, 10)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: init.Rng = None,
        dtype: Any = np.float64,
    ) -> None:
        check_integers("Linear", 0, in_features=in_features, out_features=out_features)
        rng = np.random.default_rng(rng)
        bound = 1 / math.sqrt(max(in_features, 1))
        self.in_features = in_features
        self.out_features = out_features
        self.weight = init.empty((out_features, in_features), dtype, "weight")
        init.uniform_(self.weight, -bound, bound, rng)
        self.bias = None
        if bias:
            self.bias = init.empty((out_features,), dtype, "bias")
            init.uniform_(self.bias, -bound, bound, rng)

    def forward(self, x: Any) -> Tensor:
        """X of shape (…, in_features) → (…, out_features)."""
        return _call(linear, (x, self.weight, self.bias), _NONE)

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Identity(Module):
    """x itself: what stands where a layer was taken out.

    >>> import tinygrad_stab as tg
    >>> tg.nn.Identity()(tg.tensor([1.0]))
    tensor([1.])
    """

    def forward(self, x: Any) -> Any:
        """Anything."""
        return x


class Flatten(Module):
    """Several axes as one: (N, C, H, W) → (N, C·H·W).

    Parameters
    ----------
    start_dim, end_dim : int
        The first and the last of the axes to join; from −1 backwards.

    Raises
    ------
    IndexingError
        The input has no such axis.
    ArgumentError
        The first comes after the last.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.Flatten()(np.ones((32, 3, 4, 4))).shape
    (32, 48)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        check_integers("Flatten", -64, start_dim=start_dim, end_dim=end_dim)
        self.start_dim = int(start_dim)
        self.end_dim = int(end_dim)

    def forward(self, x: Any) -> Tensor:
        """X of shape (…, a, …, b, …) → (…, a·…·b, …)."""
        shape = np.shape(x)
        for dim in (self.start_dim, self.end_dim):
            if not -len(shape) <= dim < len(shape):
                raise IndexingError(
                    f"Flatten: start_dim and end_dim are axes of the input; received {self}, input "
                    f"{shape}. Is the axis of the batch missing?"
                )
        first, last = self.start_dim % len(shape), self.end_dim % len(shape)
        if first > last:
            raise ArgumentError(
                f"Flatten: start_dim comes before end_dim; received {self}, input {shape}. "
                f"Exchange them"
            )
        joined = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
        return _call(reshape, (x,), {"shape": joined})

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """In training, each element set to 0 with probability p, the others divided by 1 − p.

    So the mean of an element stays what it is, and evaluation is the identity (Srivastava et al.
    2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", §10).

    Parameters
    ----------
    p : float
        From 0 to 1; at 1 everything is 0.
    rng : numpy.random.Generator, int or None
        Where the masks come from. Pass one Generator to all layers: equal seeds give equal masks.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> layer = tg.nn.Dropout(0.5, rng=0)
    >>> layer(tg.tensor(np.ones(5)))
    tensor([2., 0., 0., 0., 2.])
    >>> layer.eval()(tg.tensor(np.ones(5)))
    tensor([1., 1., 1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, *, rng: init.Rng = None) -> None:
        check_numbers("Dropout", "a probability, from 0 to 1", lambda p: 0 <= p <= 1, p=p)
        self.p = float(p)
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Any) -> Any:
        """Any shape."""
        return functional.dropout(x, self.p, self.training, self.rng)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Embedding(Module):
    """A table of vectors, looked up by number: out[…] = weight[input[…]].

    ∂L/∂weight adds up, row by row, what the places that asked for the row receive (Bengio et al.
    2003, "A Neural Probabilistic Language Model", §2).

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows and columns of the table, drawn from the standard normal distribution.
    padding_idx : int, optional
        A row of zeros that gets no gradient; from −1 backwards.
    rng : numpy.random.Generator, int or None
    dtype : dtype
        Of the table: float64 or float32.

    Attributes
    ----------
    weight : Tensor of shape (num_embeddings, embedding_dim)

    Raises
    ------
    ArgumentError, IndexingError
        A size below 0; a ``padding_idx`` that is no row.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> tg.nn.Embedding(1000, 16, rng=0)([[3, 999], [0, 3]]).shape
    (2, 2, 16)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        rng: init.Rng = None,
        dtype: Any = np.float64,
    ) -> None:
        check_integers("Embedding", 0, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None
        self.weight = init.empty((num_embeddings, embedding_dim), dtype, "weight")
        init.normal_(self.weight, rng=rng)
        if padding_idx is not None:
            if isinstance(padding_idx, bool) or padding_idx not in range(
                -num_embeddings, num_embeddings
            ):
                raise IndexingError(
                    f"Embedding: padding_idx is one of the {num_embeddings} rows; received "
                    f"{padding_idx!r:.60}"
                )
            self.padding_idx = int(padding_idx) % num_embeddings
            self.weight[self.padding_idx] = 0.0

    def forward(self, input: Any) -> Any:
        """Integers of any shape → (*input.shape, embedding_dim)."""
        return functional.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
