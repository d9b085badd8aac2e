"""Published results: what a source says, and the function that measures it again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..arrays import plain
from ..errors import ArgumentError


class Measured(NamedTuple):
    """What came out.

    Attributes
    ----------
    text : str
        The numbers that the source's stand beside, short.
    passed : bool
        Whether they agree within the row's tolerance.
    numbers : dict
        All of them, for JSON.
    """

    text: str
    passed: bool
    numbers: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One published result.

    Attributes
    ----------
    name : str
    section : str
        What it is about: a heading of the table.
    claim, source : str
        In words, and where it is published.
    published, tolerance : str
        What the source (or theory) gives, and how far off counts as the same.
    measure : callable
        ``measure(quick)`` measures it; ``quick`` asks for fewer seeds or steps, where that still
        decides.
    quick : bool
        Whether it can be decided in seconds, and so is part of the quick set.
    mnist : bool
        Whether it needs MNIST.
    """

    name: str
    section: str
    claim: str
    source: str
    published: str
    tolerance: str
    measure: Callable[[bool], Measured]
    quick: bool
    mnist: bool


class Outcome(NamedTuple):
    """A row and what was measured."""

    row: Row
    measured: Measured
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        row, found = self.row, self.measured
        return {
            "name": row.name,
            "section": row.section,
            "claim": row.claim,
            "source": row.source,
            "published": row.published,
            "tolerance": row.tolerance,
            "measured": found.text,
            "passed": found.passed,
            "seconds": round(self.seconds, 2),
            "numbers": plain(found.numbers),
        }


ROWS: dict[str, Row] = {}


def row(
    name: str,
    *,
    section: str,
    claim: str,
    source: str,
    published: str,
    tolerance: str,
    quick: bool = True,
    mnist: bool = False,
) -> Callable[[Callable[[bool], Measured]], Callable[[bool], Measured]]:
    """Enter the function below into the table, under a name of its own."""

    def enter(measure: Callable[[bool], Measured]) -> Callable[[bool], Measured]:
        if name in ROWS:
            raise ArgumentError(f"row: each name once; {name!r} is taken. Choose another")
        ROWS[name] = Row(name, section, claim, source, published, tolerance, measure, quick, mnist)
        return measure

    return enter


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a table for people, section by section."""
    lines = ["# Published results, measured again", "", "By `tinygrad-stab reproduce`."]
    section = None
    for row, measured, seconds in outcomes:
        if row.section != section:
            section = row.section
            lines += ["", f"## {section}", ""]
            lines += ["| | source | published | measured | tolerance | | s |"]
            lines += ["|---|---|---|---|---|---|---|"]
        cells = [
            f"{row.claim} (`{row.name}`)", row.source, row.published, measured.text, row.tolerance,
            "✓" if measured.passed else "**✗**", f"{seconds:.1f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines).strip() + "\n"
