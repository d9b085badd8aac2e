"""Steps of gradient descent, counted in steps: what papers on depth plot against."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..nn import CrossEntropyLoss, Module
from ..optim import Optimizer, clip_grad_norm_


def descend(
    model: Module,
    optimizer: Optimizer,
    x: np.ndarray,
    labels: np.ndarray,
    steps: int,
    *,
    batch_size: int,
    rng: np.random.Generator,
    clip_norm: float | None = None,
) -> Iterator[float]:
    """Train a classifier on random batches, a step each time that the next loss is asked for.

    Parameters
    ----------
    model : Module
    optimizer : Optimizer
        Of the model's parameters.
    x : ndarray of shape (n, features)
    labels : ndarray of int, shape (n,)
    steps : int
        At most so many: a loss that is not finite is the last.
    batch_size : int
        Examples a step, drawn with replacement.
    rng : numpy.random.Generator
    clip_norm : float, optional
        Bound of the gradient's norm.

    Yields
    ------
    float
        Cross-entropy of the batch, before its step.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> from tinygrad_stab.experiments.steps import descend
    >>> x, labels = tg.datasets.digits().features(), tg.datasets.digits().labels
    >>> model = tg.nn.Linear(64, 10, rng=0)
    >>> sgd = tg.optim.SGD(model.parameters(), lr=0.5)
    >>> rng = np.random.default_rng(0)
    >>> losses = list(descend(model, sgd, x, labels, 50, batch_size=64, rng=rng))
    >>> len(losses), losses[-1] < 0.5 * losses[0]
    (50, True)
    """
    cross_entropy = CrossEntropyLoss()
    parameters: list[Any] = list(model.parameters())
    for _ in range(steps):
        batch = rng.integers(len(x), size=batch_size)
        optimizer.zero_grad()
        loss = cross_entropy(model(x[batch]), labels[batch])
        yield loss.item()
        if not np.isfinite(loss.item()):
            return
        loss.backward(retain="leaves")
        if clip_norm is not None:
            clip_grad_norm_(parameters, clip_norm)
        optimizer.step()
