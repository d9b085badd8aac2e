"""All claims, put to the test: importing this file fills `CLAIMS`."""

from collections.abc import Iterator

from ..errors import ArgumentError
from . import claims_depth, claims_training  # noqa: F401  # each enters its claims
from .claims import CLAIMS, Audit, run
from .parallel import each


def chosen(name: str) -> list[str]:
    """The claims with this in their name; all for an empty one.

    Raises
    ------
    ArgumentError
        There are none.
    """
    found = [claim for claim in CLAIMS if name in claim]
    if not found:
        raise ArgumentError(
            f"claims: NAME is a claim, or part of its name; received {name!r}. There are "
            f"{', '.join(CLAIMS)}"
        )
    return found


def audit(names: list[str], quick: bool, workers: int) -> Iterator[Audit]:
    """Put claims to the test, in so many processes, and hand out each as it is done."""
    for name, (numbers, verdict, seconds) in each(measure, names, workers, quick):
        yield Audit(CLAIMS[name], numbers, verdict, seconds)


def measure(name: str, quick: bool) -> tuple:
    """A claim, by name: its numbers, its verdict, and the seconds that it took."""
    return run(CLAIMS[name], quick)[1:]
