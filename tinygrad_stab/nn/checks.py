"""What a layer or loss checks of its numbers before it keeps them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError


def check_integers(what: str, least: int, **values: Any) -> None:
    """Refuse what is no integer, or smaller than ``least``.

    Raises
    ------
    ArgumentError

    Examples
    --------
    >>> check_integers("Linear", 0, in_features=3, out_features=0)
    """
    for name, value in values.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (whole and value >= least):
            raise ArgumentError(
                f"{what}: {name} is an integer of at least {least}; received {name}={value!r:.60}"
            )


def check_numbers(what: str, rule: str, holds: Callable[[Any], bool], **values: Any) -> None:
    """Refuse what is no finite real number, or one for which ``rule`` does not hold.

    Raises
    ------
    ArgumentError

    Examples
    --------
    >>> check_numbers("Dropout", "a probability, from 0 to 1", lambda p: 0 <= p <= 1, p=0.5)
    """
    for name, value in values.items():
        real = isinstance(value, int | float | np.integer | np.floating)
        if not (real and not isinstance(value, bool) and math.isfinite(value) and holds(value)):
            raise ArgumentError(f"{what}: {name} is {rule}; received {name}={value!r:.60}")
