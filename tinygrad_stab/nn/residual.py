"""Skip connections: a branch whose output is added to its input."""

from typing import Any

import numpy as np

from ..checks import check_integers, check_numbers
from ..errors import ArgumentError
from . import init
from .activations import ReLU
from .containers import Sequential
from .layers import Linear
from .module import Module
from .normalization import BatchNorm1d


class Residual(Module):
    """x + scale·f(x): the gradient reaches x past f, whatever f does to it.

    ∂L/∂x = g + scale·(∂f/∂x)ᵀ g (He et al. 2016, "Identity Mappings in Deep Residual Networks",
    equation 5).

    Parameters
    ----------
    inner : Module
        f; its output has the shape of its input.
    scale : float
        Of the branch: 1/√L keeps the variance of L He-initialised blocks below a factor e.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> tg.nn.Residual(tg.nn.ReLU())(tg.tensor([-1.0, 2.0]))
    tensor([-1.,  4.])
    """

    def __init__(self, inner: Module, scale: float = 1.0) -> None:
        check_numbers("Residual", "a finite number", lambda s: True, scale=scale)
        self.inner = inner
        self.scale = scale

    def forward(self, x: Any) -> Any:
        """The input plus what the branch makes of it."""
        branch = self.inner(x)
        if np.shape(branch) != np.shape(x):
            raise ArgumentError(
                f"Residual: the branch must keep the shape of its input; {np.shape(x)} became "
                f"{np.shape(branch)}. Give f as many outputs as inputs"
            )
        return x + (branch if self.scale == 1.0 else self.scale * branch)


class ResidualBlock(Module):
    """y = x + scale·f(x), f made of ``layers`` times normalisation, ReLU and a linear map.

    The Jacobian of a block is I + scale·J_f, so that a row of gradients g = ∂L/∂y becomes

        ∂L/∂x = g·(I + scale·J_f),

    and after L blocks g·Π (I + scale·J_f): a sum over all ways through the branches and past them,
    one of which is g itself. However small the J_f, the gradient does not vanish.

    Parameters
    ----------
    in_features, out_features : int
        Lengths of the last axis of x and y; by default the same. If they differ, the skip is a
        linear map P without bias (what a 1×1 convolution is for images): y = P x + scale·f(x).
    order : str
        What follows what in the branch, each time. The literature has

        - ``"norm-relu-linear"``: pre-activation (He et al. 2016, "Identity Mappings in Deep
          Residual Networks", figure 4e). Nothing stands in the way of the skip.
        - ``"linear-norm-relu"``: post-activation (He et al. 2015, "Deep Residual Learning for Image
          Recognition", figure 2). A ReLU at the end of the branch goes behind the sum instead:
          y = relu(x + scale·f(x)), and I + scale·J_f is multiplied by the ReLU's 0 or 1.
        - ``"relu-norm-linear"``: as in many drawings.

        Without ``norm``: the same, not normalised. Each part once; ``linear`` must be there.
    layers : int
        How often; at least 1.
    scale : float
        Of the branch. 1/√L for L blocks without normalisation bounds the growth of the signal.
    zero_init_last : bool
        Start with f = 0: the last γ and β, or W and b, of the branch are zeros, so that the block
        is at first its skip alone (Goyal et al. 2017, "Accurate, Large Minibatch SGD", §5.1).
    rng : numpy.random.Generator, int or None
        Where the weights come from; see :class:`Linear`.
    dtype : dtype
        Of the parameters.

    Attributes
    ----------
    branch : Sequential
        f. A linear map that is normalised next has no bias, which normalisation would take out.
    projection : Linear or None
        P.

    Raises
    ------
    ArgumentError
        An argument outside its range.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> block = tg.nn.ResidualBlock(3, layers=1, scale=0.5, zero_init_last=True, rng=0)
    >>> block
    ResidualBlock(
      (branch): Sequential(
        (0): BatchNorm1d(3, eps=1e-05, momentum=0.1)
        (1): ReLU()
        (2): Linear(in_features=3, out_features=3, bias=True)
      )
    )
    >>> x = tg.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]], requires_grad=True)
    >>> block(x).sum().backward()
    >>> x.grad
    array([[1., 1., 1.],
           [1., 1., 1.]])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        order: str = "norm-relu-linear",
        *,
        layers: int = 2,
        scale: float = 1.0,
        zero_init_last: bool = False,
        rng: init.Rng = None,
        dtype: Any = np.float64,
    ) -> None:
        out_features = in_features if out_features is None else out_features
        check_integers("ResidualBlock", 0, in_features=in_features, out_features=out_features)
        check_integers("ResidualBlock", 1, layers=layers)
        check_numbers("ResidualBlock", "a finite number", lambda s: True, scale=scale)
        parts = order.split("-") if isinstance(order, str) else []
        known = set(parts) <= {"norm", "relu", "linear"} and len(set(parts)) == len(parts)
        if not known or "linear" not in parts:
            raise ArgumentError(
                f'ResidualBlock: order joins "linear", "norm" and "relu" by hyphens, each at most '
                f'once, and has "linear"; received {order!r:.60}. Try "norm-relu-linear"'
            )
        rng = np.random.default_rng(rng)
        parts *= layers
        # A ReLU that ended the branch could only add; behind the sum the branch can take away too.
        self.activation = None
        if parts[-1] == "relu":
            self.activation = ReLU()
            parts.pop()
        self.scale = scale
        made: list[Module] = []
        width = in_features
        for part, following in zip(parts, [*parts[1:], ""], strict=True):
            if part == "linear":
                bias = following != "norm"
                made.append(Linear(width, out_features, bias, rng=rng, dtype=dtype))
                width = out_features
            else:
                made.append(ReLU() if part == "relu" else BatchNorm1d(width, dtype=dtype))
        self.branch = Sequential(*made)
        if zero_init_last:
            last = [module for module in made if not isinstance(module, ReLU)][-1]
            for parameter in last.parameters():
                init.zeros_(parameter)
        self.projection = None
        if in_features != out_features:
            self.projection = Linear(in_features, out_features, bias=False, rng=rng, dtype=dtype)

    def forward(self, x: Any) -> Any:
        """X of shape (N, in_features) → (N, out_features)."""
        skip = x if self.projection is None else self.projection(x)
        branch = self.branch(x)
        out = skip + (branch if self.scale == 1.0 else self.scale * branch)
        return out if self.activation is None else self.activation(out)
