"""Batches: arrays cut along their first axis, in order or shuffled anew every epoch."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..arrays import numbers
from ..checks import check_integers, is_integer
from ..errors import ArgumentError, StateDictError


class DataLoader:
    """Cuts arrays into batches; each ``for`` loop over it is one epoch.

    Batch i holds the examples i·batch_size … (i + 1)·batch_size − 1 of an order: their own or,
    shuffled, a permutation that is drawn when the loop starts. So two loops over one loader do not
    disturb each other, and the order depends on ``rng`` and the number of loops alone.

    Parameters
    ----------
    *arrays : array_like of shape (n, …)
        Such as inputs and targets, of the same n. What is an array already is not copied.
    batch_size : int
        At least 1.
    shuffle : bool
        Whether every epoch has an order of its own. Then batches are copies, else views.
    drop_last : bool
        Whether a last batch of fewer than ``batch_size`` examples is left out.
    rng : numpy.random.Generator, int or None
        Where the permutations come from.

    Raises
    ------
    ArgumentError
        No arrays, lengths that differ, a batch size that is no integer of at least 1, or not one
        batch.
    DtypeError
        Something other than numbers.

    Examples
    --------
    >>> import numpy as np, tinygrad_stab as tg
    >>> loader = tg.training.DataLoader(np.arange(5), [0, 1, 0, 1, 0], batch_size=2)
    >>> for x, y in loader:
    ...     print(x, y)
    [0 1] [0 1]
    [2 3] [0 1]
    [4] [0]
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.arrays = [numbers(array) for array in arrays]
        shapes = [array.shape for array in self.arrays]
        if len({shape[:1] for shape in shapes}) != 1 or shapes[0] == ():
            raise ArgumentError(
                f"DataLoader: needs arrays with one entry an example, all of the same length; "
                f"received shapes {shapes}. Pass inputs and targets, and batch_size= by name"
            )
        check_integers("DataLoader", 1, batch_size=batch_size)
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.rng = np.random.default_rng(rng)
        self.epoch = 0  # how many loops have been started
        if len(self) == 0:
            raise ArgumentError(
                f"DataLoader: needs at least one batch; received {shapes[0][0]} examples for "
                f"batch_size={batch_size}, drop_last={drop_last}. Take smaller batches"
            )

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        examples = len(self.arrays[0])
        if self.drop_last:
            return examples // self.batch_size
        return -(-examples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        """Start an epoch: its batches, each an array or, for several arrays, a tuple."""
        order = self.rng.permutation(len(self.arrays[0])) if self.shuffle else None
        self.epoch += 1
        return (self._batch(order, i * self.batch_size) for i in range(len(self)))

    def _batch(self, order: np.ndarray | None, start: int) -> Any:
        chosen: Any = slice(start, start + self.batch_size)
        if order is not None:
            chosen = order[chosen]
        batch = tuple(array[chosen] for array in self.arrays)
        return batch if len(batch) > 1 else batch[0]

    def state_dict(self) -> dict[str, Any]:
        """What the epochs to come depend on: the generator's state, and how many were started.

        A loop draws its order as it starts. So a state that is saved after an epoch, or in the
        middle of one, leads to the epoch that comes next; what is left of a broken-off one is not
        made up for.
        """
        return {"epoch": self.epoch, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the loader that ``state`` was taken from would have gone on.

        Raises
        ------
        StateDictError
            No state of a loader with this kind of generator. Nothing is changed.
        """
        try:
            epoch, rng = state["epoch"], state["rng"]
            if not is_integer(epoch, 0):
                raise ValueError("the epoch is an integer of at least 0")
            self.rng.bit_generator.state = rng
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise StateDictError(
                f"load_state_dict: needs the epoch of a DataLoader and the state of its "
                f"{type(self.rng.bit_generator).__name__}; received {state!r:.200} ({error}). "
                f"Was it made by state_dict() of a loader?"
            ) from error
        self.epoch = int(epoch)
