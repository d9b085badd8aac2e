"""How claims are shown: a table of all, a panel of one, and Markdown."""

from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .claims import Audit, spread

_MARK = {"supported": "✓", "refuted": "✗", "depends": "≈"}
_STYLE = {"supported": "bold green", "refuted": "bold red", "depends": "bold yellow"}
_CHINESE = {"supported": "成立", "refuted": "不成立", "depends": "视条件而定"}


def table(audits: Sequence[Audit]) -> Table:
    """Every claim, its verdict, and the numbers that decided."""
    rows = Table(
        box=box.SIMPLE_HEAD, show_lines=True, pad_edge=False, header_style="bold", expand=True
    )
    rows.add_column("verdict", no_wrap=True)
    rows.add_column("claim", ratio=2)
    rows.add_column("measured: medians over seeds", ratio=3)
    for audit in audits:
        verdict = Text.assemble(_word(audit), "\n", (audit.claim.name, "dim"))
        rows.add_row(verdict, audit.claim.statement, _finding(audit))
    return rows


def panel(audit: Audit) -> Panel:
    """One claim: in both languages, what was run, every number with its spread, the verdict."""
    claim = audit.claim
    numbers = Table(box=None, pad_edge=False, show_header=False)
    numbers.add_column(ratio=3)
    numbers.add_column(justify="right", no_wrap=True)
    for name, values in audit.numbers.items():
        numbers.add_row(name, spread(values))
    seeds = " or ".join(map(str, sorted({len(values) for values in audit.numbers.values()})))
    return Panel(
        Group(
            Text(claim.statement, "bold"),
            Text(claim.chinese, "bold"),
            Text(f"\nWhat is run: {claim.setting}\n"),
            Text(f"Measured, {seeds} seeds (mean ± standard deviation, or median (range)):", "dim"),
            numbers,
            Text(f"\nAn earlier, separate measurement: {claim.earlier}.\n", "dim"),
            Text.assemble(_word(audit), ("  " + _CHINESE[audit.verdict.word], "bold")),
            _finding(audit),
        ),
        title=claim.name,
        subtitle=f"{audit.seconds:.1f} s",
        title_align="left",
        subtitle_align="right",
    )


def markdown(audits: Sequence[Audit]) -> str:
    """A table of all claims, then the numbers of each."""
    lines = ["| claim | verdict | measured |", "|---|---|---|"]
    for audit in audits:
        claim, word = audit.claim, audit.verdict.word
        cells = [
            f"{claim.statement}<br>{claim.chinese}",
            f"**{_MARK[word]} {word}**<br>{_CHINESE[word]}",
            _finding(audit).plain.replace("\n", "<br>"),
        ]
        lines.append(_row(cells))
    for audit in audits:
        claim = audit.claim
        lines += ["", f"## {claim.name}", "", f"{claim.statement} {claim.chinese}", ""]
        lines += [f"{claim.setting} Measured in {audit.seconds:.1f} s:", ""]
        lines += ["| | over seeds |", "|---|---|"]
        lines += [_row([name, spread(values)]) for name, values in audit.numbers.items()]
        lines += ["", f"An earlier, separate measurement: {claim.earlier}."]
    return "\n".join(lines) + "\n"


def _word(audit: Audit) -> Text:
    word = audit.verdict.word
    return Text(f"{_MARK[word]} {word}", _STYLE[word])


def _finding(audit: Audit) -> Text:
    """The reason, and what it depends on."""
    text = Text(audit.verdict.reason)
    if audit.verdict.depends_on:
        but = "" if audit.verdict.word == "depends" else "within limits: "
        text.append(f"\n→ {but}it depends on {audit.verdict.depends_on}", "italic")
    return text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
