"""What is checked of an argument that is one number or one word, before it is kept."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

from .errors import ArgumentError


def is_integer(value: object, least: int) -> TypeGuard[int]:
    """Whether it is an integer, and no less; a bool is none.

    >>> is_integer(3, 0), is_integer(3.0, 0), is_integer(True, 0)
    (True, False, False)
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        return False
    return bool(value >= least)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite real number, one that fits a float; a bool is none.

    >>> is_number(0.5), is_number(float("nan")), is_number(10**400), is_number("0.5")
    (True, False, False, False)
    """
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def check_integers(what: str, least: int, **values: object) -> None:
    """Refuse what is no integer, or smaller than ``least``.

    Raises
    ------
    ArgumentError

    Examples
    --------
    >>> check_integers("Linear", 0, in_features=3, out_features=0)
    """
    for name, value in values.items():
        if not is_integer(value, least):
            raise _refusal(what, name, f"an integer of at least {least}", value)


def check_numbers(what: str, rule: str, holds: Callable[[Any], bool], **values: object) -> None:
    """Refuse what is no finite real number, or one for which ``rule`` does not hold.

    A rule without an upper bound says "finite"; after a full stop, it may go on with the likely
    fix.

    Raises
    ------
    ArgumentError

    Examples
    --------
    >>> check_numbers("Dropout", "a probability, from 0 to 1", lambda p: 0 <= p <= 1, p=0.5)
    """
    for name, value in values.items():
        if not (is_number(value) and holds(value)):
            raise _refusal(what, name, rule, value)


def check_choice(what: str, choices: Sequence[str | bool], **values: object) -> None:
    """Refuse what is none of several words, or no bool.

    Raises
    ------
    ArgumentError

    Examples
    --------
    >>> check_choice("RNN", ("tanh", "relu"), nonlinearity="tanh")
    """
    for name, value in values.items():
        if not (isinstance(value, str | bool) and value in choices):
            raise _refusal(what, name, " or ".join(map(repr, choices)), value)


def _refusal(what: str, name: str, rule: str, value: object) -> ArgumentError:
    invariant, _, fix = rule.partition(". ")
    message = f"{what}: {name} is {invariant}; received {name}={value!r:.60}"
    return ArgumentError(f"{message}. {fix}" if fix else message)
