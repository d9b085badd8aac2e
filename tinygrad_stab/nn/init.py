"""How to draw the first weights, so that signals and gradients keep their size.

For y = W x with n = fan_in inputs of mean square q and independent weights of variance v,
Var(y) = n·v·q; backwards, δ_x = Wᵀ δ_y gains a factor fan_out·v. Which of the two is kept at 1,
and what the activation takes away, is the difference between the schemes below.

All functions write to a leaf tensor in place and return it; ``rng`` is a Generator, a seed or
None. Uniform on ±a has the variance a²/3, hence the √3.
"""

import math
from typing import Any

import numpy as np

from ..checks import check_choice, check_numbers
from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError

Rng = np.random.Generator | int | None


def empty(shape: tuple[int, ...], dtype: Any, name: str) -> Tensor:
    """A parameter to be initialised: zeros that require grad."""
    return Tensor(np.zeros(shape, dtype), requires_grad=True, name=name)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much weights must be larger to make up for what an activation takes away.

    1 for "linear", "sigmoid", "conv1d" … (PyTorch's convention, not a derivation), 5/3 for
    "tanh", √2 for "relu", √(2/(1 + a²)) for "leaky_relu" of slope a = ``param`` (0.01),
    3/4 for "selu".

    For relu: half of a symmetric input is cut off, so E[relu(y)²] = Var(y)/2, and a variance of
    2/n keeps it (He et al. 2015, §2.2, equation 10).

    Raises
    ------
    ArgumentError
        Unknown activation.

    Examples
    --------
    >>> import tinygrad_stab as tg
    >>> round(tg.nn.init.calculate_gain("relu") ** 2, 12)
    2.0
    """
    slope = 0.01 if param is None else param
    check_numbers("calculate_gain", "finite", lambda a: True, param=slope)
    linear = ("linear", "conv1d", "conv2d", "conv3d", "sigmoid")
    gains = dict.fromkeys(linear, 1.0) | {
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 3 / 4,
    }
    if not isinstance(nonlinearity, str) or nonlinearity not in gains:
        raise ArgumentError(
            f"calculate_gain: knows {', '.join(gains)}; received {nonlinearity!r}. "
            f"For another activation pass gain= to the initialiser"
        )
    return gains[nonlinearity]


def _fans(tensor: Tensor, scheme: str) -> tuple[int, int]:
    """How many inputs each output sums, and how many outputs each input reaches."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"{scheme}: a fan-in and a fan-out need at least 2 axes, (out, in, …); received shape "
            f"{tensor.shape}. For a bias use zeros_ or uniform_"
        )
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def _check_size(scheme: str, **sizes: Any) -> None:
    check_numbers(scheme, "finite, at least 0", lambda s: s >= 0, **sizes)


def _draw(tensor: Tensor, kind: str, std: float, rng: Rng) -> Tensor:
    """Fill with mean 0 and the given standard deviation."""
    rng = np.random.default_rng(rng)
    if kind == "normal":
        tensor.data = rng.normal(0.0, std, tensor.shape)
    else:
        bound = math.sqrt(3) * std
        tensor.data = rng.uniform(-bound, bound, tensor.shape)
    return tensor


def _xavier(tensor: Tensor, kind: str, gain: float, rng: Rng) -> Tensor:
    _check_size(f"xavier_{kind}_", gain=gain)
    fan_in, fan_out = _fans(tensor, f"xavier_{kind}_")
    return _draw(tensor, kind, gain * math.sqrt(2 / max(fan_in + fan_out, 1)), rng)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, rng: Rng = None) -> Tensor:
    """Uniform on ±gain·√(6/(fan_in + fan_out)), "normalised initialisation".

    Near 0 tanh is the identity. Forwards the variance is kept if n_in·v = 1, backwards if
    n_out·v = 1; both cannot hold unless the layer is square, so v = 2/(n_in + n_out).
    Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
    networks", §4.2.1, equations 10-12 and 16.

    Raises
    ------
    ShapeError
        Fewer than two axes.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> w = tg.nn.init.xavier_uniform_(tg.tensor(np.zeros((100, 200))), rng=0)
    >>> round(float(w.data.var() * (100 + 200)), 1)
    2.0
    """
    return _xavier(tensor, "uniform", gain, rng)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, rng: Rng = None) -> Tensor:
    """Normal of variance gain²·2/(fan_in + fan_out); derivation at :func:`xavier_uniform_`."""
    return _xavier(tensor, "normal", gain, rng)


def _kaiming(tensor: Tensor, kind: str, a: float, mode: str, nonlinearity: str, rng: Rng) -> Tensor:
    fans = dict(zip(("fan_in", "fan_out"), _fans(tensor, f"kaiming_{kind}_"), strict=True))
    check_choice(f"kaiming_{kind}_", tuple(fans), mode=mode)
    gain = calculate_gain(nonlinearity, a)
    return _draw(tensor, kind, gain / math.sqrt(max(fans[mode], 1)), rng)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    rng: Rng = None,
) -> Tensor:
    """Uniform on ±gain·√(3/fan), the variance of :func:`kaiming_normal_`."""
    return _kaiming(tensor, "uniform", a, mode, nonlinearity, rng)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    rng: Rng = None,
) -> Tensor:
    """Normal of variance gain²/fan: with the defaults 2/fan_in, He's initialisation.

    ReLU sets half of its inputs to 0, so E[relu(y)²] = Var(y)/2, and n·v/2 = 1 keeps the size of
    the signal ("fan_in") or, with n the number of outputs, of the gradient ("fan_out"). One of
    the two is enough: they differ by one factor for the whole net, not one a layer.
    He et al. 2015, "Delving Deep into Rectifiers", §2.2, equations 10 and 14.

    Parameters
    ----------
    tensor : Tensor
        Of shape (out, in, …).
    a : float
        Slope of the leaky part, for ``nonlinearity="leaky_relu"``; 0 is ReLU.
    mode : {"fan_in", "fan_out"}
        Keep the signal's variance, or the gradient's.
    nonlinearity : str
        As for :func:`calculate_gain`.
    rng : numpy.random.Generator, int or None

    Raises
    ------
    ShapeError
        Fewer than two axes.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> w = tg.nn.init.kaiming_normal_(tg.tensor(np.zeros((100, 200))), rng=0)
    >>> round(float(w.data.var() * 200), 1)
    2.0
    """
    return _kaiming(tensor, "normal", a, mode, nonlinearity, rng)


def lecun_uniform_(tensor: Tensor, rng: Rng = None) -> Tensor:
    """Uniform on ±√(3/fan_in), the variance of :func:`lecun_normal_`."""
    return _draw(tensor, "uniform", 1 / math.sqrt(max(_fans(tensor, "lecun_uniform_")[0], 1)), rng)


def lecun_normal_(tensor: Tensor, rng: Rng = None) -> Tensor:
    """Normal of variance 1/fan_in: keeps the variance of a sum of fan_in inputs.

    LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", §4.6, equation 16; what SELU needs
    (Klambauer et al. 2017).
    """
    return _draw(tensor, "normal", 1 / math.sqrt(max(_fans(tensor, "lecun_normal_")[0], 1)), rng)


def orthogonal_(tensor: Tensor, gain: float = 1.0, rng: Rng = None) -> Tensor:
    """A random matrix with orthonormal rows or columns, times gain: every singular value is gain.

    So Wᵀ changes no gradient's length (for a square W), not only on average. Q of a QR
    decomposition of a normal matrix, with R's signs moved to it so that Q is uniform on the
    group. Saxe, McClelland & Ganguli 2014, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", §3; axes after the first count as one.

    Raises
    ------
    ShapeError
        Fewer than two axes.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> w = tg.nn.init.orthogonal_(tg.tensor(np.zeros((3, 3))), rng=0).data
    >>> bool(np.allclose(w @ w.T, np.eye(3)))
    True
    """
    _check_size("orthogonal_", gain=gain)
    _fans(tensor, "orthogonal_")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    normal = np.random.default_rng(rng).normal(size=(rows, columns))
    if normal.size:
        q, r = np.linalg.qr(normal if rows >= columns else normal.T)
        q = q * np.sign(np.diag(r))
        tensor.data = gain * (q if rows >= columns else q.T).reshape(tensor.shape)
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, rng: Rng = None) -> Tensor:
    """Normal numbers of the given mean and standard deviation; any shape."""
    check_numbers("normal_", "finite", lambda m: True, mean=mean)
    _check_size("normal_", std=std)
    tensor.data = np.random.default_rng(rng).normal(mean, std, tensor.shape)
    return tensor


def uniform_(tensor: Tensor, low: float = 0.0, high: float = 1.0, rng: Rng = None) -> Tensor:
    """Uniform numbers between two bounds; any shape."""
    check_numbers("uniform_", "finite", lambda b: True, low=low, high=high)
    check_numbers("uniform_", f"finite, at least low={low}", lambda h: h >= low, high=high)
    tensor.data = np.random.default_rng(rng).uniform(low, high, tensor.shape)
    return tensor


def constant_(tensor: Tensor, value: float) -> Tensor:
    """One value everywhere. In a weight matrix it leaves all units alike for ever."""
    tensor.data = np.full(tensor.shape, value)
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros: for biases, and for the last layer of a residual branch."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones: for the scales of normalisation layers."""
    return constant_(tensor, 1.0)
