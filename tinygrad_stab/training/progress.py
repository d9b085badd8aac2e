"""The progress bar, where one can be seen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(wanted: bool, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar of so many steps, where one can be seen; yields what moves it by a step."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft
    except ImportError:  # the engine alone is installed
        wanted = False
    console = Console(stderr=True) if wanted else None
    if console is None or not (console.is_terminal or console.is_jupyter):
        yield lambda text: None
        return
    text = TextColumn("{task.description}")
    with Progress(text, BarColumn(), MofNCompleteColumn(), TimeLeft(), console=console) as bar:
        task = bar.add_task("", total=total)
        yield lambda text: bar.update(task, advance=1, description=text)
