"""Recurrent layers: one cell, applied at every step of a sequence to its own last state.

A cell's formula is a plain function, (input, state, weights) → new state. A cell module calls it
once; a layer module is a loop over time, in one direction or both, one layer above the other.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import numbers
from ..checks import check_choice, check_integers, check_numbers
from ..core.operand import Operand
from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError, describe
from ..ops.activations import relu, sigmoid
from ..ops.elementwise import tanh
from ..ops.fused import linear
from ..ops.shape import concatenate, split, stack
from . import functional, init
from .module import Module

State = tuple[Any, ...]  # (h,) or, in an LSTM, (h, c)
Weights = tuple[Any, ...]  # in the order of _NAMES
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

# --- the formulas


def _pre_activation(x: Any, h: Any, weights: Weights) -> Any:
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    # Of all steps at once, W_ih x saves less than the gradients of its slices, each as large as it.
    return linear(x, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh)


def _tanh_step(x: Any, state: State, weights: Weights) -> State:
    return (tanh(_pre_activation(x, state[0], weights)),)


def _relu_step(x: Any, state: State, weights: Weights) -> State:
    return (relu(_pre_activation(x, state[0], weights)),)


def _lstm_step(x: Any, state: State, weights: Weights) -> State:
    h, c = state
    i, f, g, o = split(_pre_activation(x, h, weights), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru_step(x: Any, state: State, weights: Weights) -> State:
    (h,) = state
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    r_x, z_x, n_x = split(linear(x, weight_ih, bias_ih), 3, axis=-1)
    r_h, z_h, n_h = split(linear(h, weight_hh, bias_hh), 3, axis=-1)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    n = tanh(n_x + r * n_h)
    return ((1 - z) * n + z * h,)


class _Rule(NamedTuple):
    """A kind of cell: its formula, its number of gates, what its state consists of."""

    step: Callable[[Any, State, Weights], State]
    gates: int
    states: tuple[str, ...]


_RNN = {"tanh": _Rule(_tanh_step, 1, ("h",)), "relu": _Rule(_relu_step, 1, ("h",))}
_LSTM = _Rule(_lstm_step, 4, ("h", "c"))
_GRU = _Rule(_gru_step, 3, ("h",))

# --- what cells and layers share


class _Recurrent(Module):
    rule: _Rule

    def _set_sizes(
        self, input_size: int, hidden_size: int, bias: bool, dtype: Any, recurrent_init: str
    ) -> None:
        check_integers(type(self).__name__, 1, input_size=input_size, hidden_size=hidden_size)
        check_choice(type(self).__name__, ("uniform", "orthogonal"), recurrent_init=recurrent_init)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.dtype, self.recurrent_init = np.dtype(dtype), recurrent_init

    def _make_weights(self, input_size: int, rng: np.random.Generator, suffix: str = "") -> None:
        """Draw the weights of one cell, one block of rows a gate, and keep them in attributes."""
        size, rows = self.hidden_size, self.rule.gates * self.hidden_size
        bound = 1 / math.sqrt(size)
        shapes = ((rows, input_size), (rows, size), (rows,), (rows,))
        for name, shape in zip(_NAMES[: 4 if self.bias else 2], shapes, strict=False):
            weight = init.empty(shape, self.dtype, name + suffix)
            if name == "weight_hh" and self.recurrent_init == "orthogonal":
                blocks = [Tensor(np.zeros((size, size))) for _ in range(self.rule.gates)]
                weight.data = np.concatenate([init.orthogonal_(b, rng=rng).data for b in blocks])
            else:
                init.uniform_(weight, -bound, bound, rng)
            setattr(self, name + suffix, weight)

    def _weights(self, suffix: str = "") -> Weights:
        return tuple(getattr(self, name + suffix, None) for name in _NAMES)

    def _array(self, value: Any) -> Any:
        """A tensor as it is; else an array, in which integers become the weights' type."""
        if isinstance(value, Operand):
            return value
        array = numbers(value)
        return array if array.dtype.kind in "fc" else array.astype(self.dtype)

    def _input(self, input: Any, axes: int, shapes: str) -> Any:
        """What was given, if it has so many axes, or one less without a batch."""
        x = self._array(input)
        if x.ndim not in (axes, axes - 1) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: the input has shape {shapes}, and {self.input_size} "
                f"features; received {x.shape}. Put the features last"
            )
        return x

    def _first_state(self, hx: Any, x: Any, shape: tuple[int, ...]) -> State:
        """What was given, if it has the right shape, or else zeros."""
        what, names = type(self).__name__, self.rule.states
        if hx is None:
            return (np.zeros(shape, self.dtype),) * len(names)
        if len(names) == 1:
            hx = (hx,)
        elif not (isinstance(hx, tuple | list) and len(hx) == 2):
            raise ArgumentError(f"{what}: the state is a pair (h, c); received {describe(hx)}")
        state = tuple(map(self._array, hx))
        for name, part in zip(names, state, strict=True):
            if part.shape != shape:
                raise ShapeError(
                    f"{what}: for an input of shape {x.shape} the state {name} has shape {shape}; "
                    f"received {part.shape}. Leave the state out to start from zeros"
                )
        return state

    def extra_repr(self) -> str:
        """Sizes."""
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}"


# --- cells


class _Cell(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        rng: init.Rng = None,
        dtype: Any = np.float64,
        recurrent_init: str = "uniform",
    ) -> None:
        self._set_sizes(input_size, hidden_size, bias, dtype, recurrent_init)
        self._make_weights(input_size, np.random.default_rng(rng))

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Input of shape (N, input_size) or (input_size,) → the new state, (…, hidden_size)."""
        x = self._input(input, 2, "(N, input_size) or (input_size,)")
        state = self._first_state(hx, x, (*x.shape[:-1], self.hidden_size))
        state = self.rule.step(x, state, self._weights())
        return state if len(state) > 1 else state[0]


class RNNCell(_Cell):
    """One step of a simple recurrent network: h′ = tanh(W_ih x + b_ih + W_hh h + b_hh).

    Backwards, ∂L/∂h = W_hhᵀ·((1 − h′²) ⊙ ∂L/∂h′): over many steps a product of many such matrices,
    which shrinks or grows without bound (Elman 1990, "Finding Structure in Time"; Pascanu et al.
    2013, "On the difficulty of training recurrent neural networks", §2).

    Parameters
    ----------
    input_size, hidden_size : int
        Lengths of x and of h, at least 1.
    bias : bool
        Whether there are b_ih and b_hh.
    nonlinearity : {"tanh", "relu"}
    rng : numpy.random.Generator, int or None
        Where the weights come from: all are uniform in ±1/√hidden_size.
    dtype : dtype
        Of the weights: float64 or float32.
    recurrent_init : {"uniform", "orthogonal"}
        "orthogonal": W_hh, or each gate's block of it, changes no vector's length (Saxe et al.
        2014, §3; Le et al. 2015 take the identity).

    Attributes
    ----------
    weight_ih, weight_hh : Tensor of shape (hidden_size, input_size), (hidden_size, hidden_size)
    bias_ih, bias_hh : Tensor of shape (hidden_size,), if there is a bias

    Raises
    ------
    ArgumentError
        A size below 1, an unknown nonlinearity or initialisation.
    ShapeError
        When called: input or state of a wrong shape.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> cell = tg.nn.RNNCell(3, 4, rng=0)
    >>> h = cell(np.ones((2, 3)))  # from zeros
    >>> cell(np.ones((2, 3)), h).shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        rng: init.Rng = None,
        dtype: Any = np.float64,
        recurrent_init: str = "uniform",
    ) -> None:
        check_choice(type(self).__name__, tuple(_RNN), nonlinearity=nonlinearity)
        self.nonlinearity, self.rule = nonlinearity, _RNN[nonlinearity]
        super().__init__(
            input_size, hidden_size, bias, rng=rng, dtype=dtype, recurrent_init=recurrent_init
        )


class LSTMCell(_Cell):
    """One step of a long short-term memory, (h, c) → (h′, c′).

    [i, f, g, o] = W_ih x + b_ih + W_hh h + b_hh;  c′ = σ(f) ⊙ c + σ(i) ⊙ tanh(g);
    h′ = σ(o) ⊙ tanh(c′). By way of c, ∂L/∂c = σ(f) ⊙ ∂L/∂c′, with no matrix: a gate at 1 passes the
    gradient on as it is. Hochreiter & Schmidhuber 1997; with the forget gate f of Gers et al. 2000,
    "Learning to Forget".

    Parameters, initialisation and errors are those of :class:`RNNCell`, without a nonlinearity.

    Attributes
    ----------
    weight_ih, weight_hh : Tensor of shape (4·hidden_size, input_size), (4·hidden_size, hidden_size)
    bias_ih, bias_hh : Tensor of shape (4·hidden_size,), if there is a bias
        One block of rows a gate, in the order i, f, g, o.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> cell = tg.nn.LSTMCell(3, 4, rng=0)
    >>> cell.bias_ih[4:8] = 1.0  # a cell that begins by remembering (Jozefowicz et al. 2015, §2.2)
    >>> h, c = cell(np.ones((2, 3)))
    >>> h, c = cell(np.ones((2, 3)), (h, c))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    rule = _LSTM


class GRUCell(_Cell):
    """One step of a gated recurrent unit.

    r = σ(W_ir x + b_ir + W_hr h + b_hr);  z = σ(W_iz x + b_iz + W_hz h + b_hz);
    n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn));  h′ = (1 − z) ⊙ n + z ⊙ h.

    Cho et al. 2014, "Learning Phrase Representations using RNN Encoder–Decoder", §2.3, with r
    applied after the product with W_hn, not before, and with z and 1 − z as PyTorch has them.

    Parameters, initialisation and errors are those of :class:`RNNCell`, without a nonlinearity.

    Attributes
    ----------
    weight_ih, weight_hh : Tensor of shape (3·hidden_size, input_size), (3·hidden_size, hidden_size)
    bias_ih, bias_hh : Tensor of shape (3·hidden_size,), if there is a bias
        One block of rows a gate, in the order r, z, n.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.GRUCell(3, 4, rng=0)(np.ones((2, 3)), np.zeros((2, 4))).shape
    (2, 4)
    """

    rule = _GRU


# --- layers


class _Layer(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        rng: init.Rng = None,
        dtype: Any = np.float64,
        recurrent_init: str = "uniform",
    ) -> None:
        what = type(self).__name__
        self._set_sizes(input_size, hidden_size, bias, dtype, recurrent_init)
        check_integers(what, 1, num_layers=num_layers)
        check_numbers(what, "a probability, from 0 to 1", lambda p: 0 <= p <= 1, dropout=dropout)
        if dropout and num_layers == 1:
            warnings.warn(
                f"{what}: dropout acts between layers, and there is one layer (dropout={dropout}). "
                f"Use nn.Dropout on the output",
                stacklevel=2,
            )
        self.num_layers, self.batch_first = num_layers, batch_first
        self.dropout, self.bidirectional = float(dropout), bidirectional
        self.rng = np.random.default_rng(rng)  # of the weights, then of the dropout
        for layer in range(num_layers):
            for direction in self._directions:
                self._make_weights(input_size, self.rng, f"_l{layer}{direction}")
            input_size = hidden_size * len(self._directions)

    @property
    def _directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Input of shape (L, N, input_size) → (output, last state); see the class."""
        shapes = "(N, L, input_size)" if self.batch_first else "(L, N, input_size)"
        x = self._input(input, 3, f"{shapes} or (L, input_size)")
        by_batch = self.batch_first and x.ndim == 3
        sequence = np.swapaxes(x, 0, 1) if by_batch else x
        length, *batch, _ = sequence.shape
        if length == 0:
            raise ShapeError(
                f"{type(self).__name__}: a sequence has at least one step; received {x.shape}. "
                f"Is an axis in the wrong place (batch_first={self.batch_first})?"
            )
        cells = self.num_layers * len(self._directions)
        first = self._first_state(hx, x, (cells, *batch, self.hidden_size))
        last: list[State] = []  # of each layer and direction
        steps = _unstack(sequence)
        for layer in range(self.num_layers):
            if layer:
                steps = [
                    functional.dropout(h, self.dropout, self.training, self.rng) for h in steps
                ]
            outputs = []  # of each direction
            for direction in self._directions:
                state = tuple(part[len(last)] for part in first)
                weights = self._weights(f"_l{layer}{direction}")
                hidden = []
                for step in reversed(steps) if direction else steps:
                    state = self.rule.step(step, state, weights)
                    hidden.append(state[0])
                last.append(state)
                outputs.append(hidden[::-1] if direction else hidden)
            steps = outputs[0]
            if self.bidirectional:
                steps = [concatenate(pair, axis=-1) for pair in zip(*outputs, strict=True)]
        final = tuple(stack(parts) for parts in zip(*last, strict=True))
        return stack(steps, axis=int(by_batch)), final if len(final) > 1 else final[0]

    def extra_repr(self) -> str:
        """Sizes and options."""
        options = ("batch_first", "dropout", "bidirectional")
        return f"{super().extra_repr()}, num_layers={self.num_layers}" + "".join(
            f", {name}={value}" for name in options if (value := getattr(self, name))
        )


def _unstack(x: Any) -> list[Any]:
    """The steps x[0], x[1], …

    A tensor is cut in halves, again and again, for the gradient of a part is as large as what it
    was cut from: L·log L numbers in all, not L².
    """
    if not isinstance(x, Operand):
        return list(x)
    if len(x) == 1:
        return [x[0]]
    middle = len(x) // 2
    return _unstack(x[:middle]) + _unstack(x[middle:])


class RNN(_Layer):
    """Simple recurrent network: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh).

    Parameters
    ----------
    input_size, hidden_size : int
        Lengths of x_t and of h_t, at least 1.
    num_layers : int
        Each takes the outputs of the one before it as its inputs.
    nonlinearity : {"tanh", "relu"}
    bias : bool
        Whether there are b_ih and b_hh.
    batch_first : bool
        Whether input and output are (N, L, …), not (L, N, …). The states are not affected.
    dropout : float
        Probability of setting to 0, in training, an output of any layer but the last (Zaremba et
        al. 2014, "Recurrent Neural Network Regularization").
    bidirectional : bool
        A second set of weights, ``…_reverse``, reads the sequence backwards; the outputs of both
        stand side by side (Schuster & Paliwal 1997).
    rng : numpy.random.Generator, int or None
        Where the weights come from, all uniform in ±1/√hidden_size, and the dropout.
    dtype : dtype
        Of the weights: float64 or float32.
    recurrent_init : {"uniform", "orthogonal"}
        As for :class:`RNNCell`.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_ih_l0_reverse, weight_ih_l1, …
        Tensors as in :class:`RNNCell`, for each layer and direction.

    Raises
    ------
    ArgumentError
        A size below 1, an unknown nonlinearity or initialisation, dropout outside [0, 1].
    ShapeError
        When called: input or state of a wrong shape, or a sequence without steps.

    Notes
    -----
    ``output, h_n = rnn(input, h_0)``, with D = 2 if bidirectional, else 1:

    - input (L, N, input_size), or (L, input_size) for one sequence;
    - h_0 and h_n, the states before and after, (D·num_layers, N, hidden_size); default zeros;
    - output, h_t of the last layer at every step, (L, N, D·hidden_size).

    Every h_t is a tensor of the graph with a gradient of its own. A state that is passed on to the
    next call brings its graph along; pass ``h_n.detach()`` to cut backpropagation through time.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> rnn = tg.nn.RNN(3, 4, rng=0)
    >>> output, h_n = rnn(np.ones((5, 2, 3)))
    >>> output.shape, h_n.shape
    ((5, 2, 4), (1, 2, 4))

    How a gradient shrinks on its way back to the first step:

    >>> h_n.sum().backward()
    >>> [round(float(np.linalg.norm(h.grad)), 2) for h in output.args]
    [0.15, 0.27, 0.52, 1.07, 2.83]
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        rng: init.Rng = None,
        dtype: Any = np.float64,
        recurrent_init: str = "uniform",
    ) -> None:
        check_choice(type(self).__name__, tuple(_RNN), nonlinearity=nonlinearity)
        self.nonlinearity, self.rule = nonlinearity, _RNN[nonlinearity]
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            rng=rng, dtype=dtype, recurrent_init=recurrent_init,
        )  # fmt: skip


class LSTM(_Layer):
    """Long short-term memory: the formula of :class:`LSTMCell` at every step.

    Parameters and errors are those of :class:`RNN`, without a nonlinearity; shapes too, with the
    pairs (h_0, c_0) and (h_n, c_n) in the place of h_0 and h_n.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> lstm = tg.nn.LSTM(3, 4, num_layers=2, batch_first=True, rng=0)
    >>> output, (h_n, c_n) = lstm(np.ones((2, 5, 3)))
    >>> output.shape, h_n.shape, c_n.shape
    ((2, 5, 4), (2, 2, 4), (2, 2, 4))
    """

    rule = _LSTM


class GRU(_Layer):
    """Gated recurrent units: the formula of :class:`GRUCell` at every step.

    Parameters, shapes and errors are those of :class:`RNN`, without a nonlinearity.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> output, h_n = tg.nn.GRU(3, 4, bidirectional=True, rng=0)(np.ones((5, 3)))
    >>> output.shape, h_n.shape
    ((5, 8), (2, 4))
    """

    rule = _GRU
