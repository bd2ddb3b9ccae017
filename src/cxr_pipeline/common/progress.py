"""Progress of long work on a terminal; nothing is shown if the output is not one."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from rich import filesize, get_console
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column, Table
from rich.text import Text

Item = TypeVar("Item")

# Characters of the other columns, so that a line fits into a terminal of 60 columns.
_WIDTH_OF_TEXT = 55
_LONGEST_BAR = 40
_DELAY_SECONDS = 0.5


@contextmanager
def progress_bar(
    description: str, total: float | None, *, completed: int = 0, unit: str = ""
) -> Iterator[Callable[..., None]]:
    """Show a bar with rate and time left inside the context, below the bars that are already shown.

    ``unit`` is ``bytes`` for an amount of data, and ``nodes`` for steps of unequal length, whose rate means nothing.
    The context yields `rich.progress.Progress.update` of the bar: ``update(advance=1)``,
    ``update(description="Epoch 2")``.

    Example:
        >>> with progress_bar("Preparing images", 30) as update:
        ...     update(advance=20)
    """
    console = get_console()
    display = _display_on(console)
    if not display.tasks:
        # Not `Console.is_terminal`, which FORCE_COLOR makes true for files.
        display.disable = not console.file.isatty() or console.is_dumb_terminal
    task = display.add_task(description, total=total, completed=completed, before=completed, unit=unit)
    display.start()
    try:
        yield partial(display.update, task)
    finally:
        if task in display.task_ids:
            display.remove_task(task)
        if not display.tasks:
            display.stop()


def track(
    items: Iterable[Item], description: str, total: float | None, *, size: Callable[[Item], int] = lambda item: 1
) -> Iterator[Item]:
    """Yield items, and show how many of them the consumer has completed; ``size`` is how much an item counts.

    Example:
        >>> list(track("abc", "Spelling", 3))
        ['a', 'b', 'c']
    """
    with progress_bar(description, total) as update:
        for item in items:
            yield item
            update(advance=size(item))


@contextmanager
def open_with_progress(path: Path, description: str) -> Iterator[BinaryIO]:
    """Open a file for reading, and show how much of it has been read."""
    with progress_bar(description, path.stat().st_size, unit="bytes"), path.open("rb") as file:
        display = _display_on(get_console())
        yield display.wrap_file(file, task_id=display.task_ids[-1])


def close_bars() -> None:
    """Remove all bars, as the end of a command by a signal or an error does not."""
    display = _display_on(get_console())
    for task in display.task_ids:
        display.remove_task(task)
    display.stop()


class _Display(Progress):
    def stop(self) -> None:
        """Stop without the empty line that Rich prints where the output is not a terminal."""
        self.live.stop()

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Leave out short work, whose line would only flicker."""
        return super().make_tasks_table([task for task in tasks if (task.elapsed or 0) >= _DELAY_SECONDS])


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _Numbers(ProgressColumn):
    """Shows, for example, ``1,024/112,120, 120/s, 0:15:26 left``."""

    def render(self, task: Task) -> Text:
        unit, seconds = task.fields["unit"], task.elapsed or 0.0
        # Over all time: Rich leaves out the first step, which may be most of the work.
        rate = (task.completed - task.fields["before"]) / seconds if seconds else 0.0
        amount = (lambda n: filesize.decimal(int(n))) if unit == "bytes" else "{:,.0f}".format
        parts = [amount(task.completed) + ("" if task.total is None else f"/{amount(task.total)}")]
        if unit == "nodes":
            parts.append(_duration(seconds))
        elif rate:
            parts.append(f"{amount(rate)}/s" if rate >= 1 else f"{1 / rate:,.0f} s each")
            if task.remaining is not None:
                parts.append(f"{_duration(task.remaining / rate)} left")
        return Text(", ".join(parts))


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


@lru_cache(maxsize=1)
def _display_on(console: Console) -> Progress:
    """Return the only display of a console, because two would overwrite each other's lines."""
    return _Display(
        _Description(),
        BarColumn(max(5, min(_LONGEST_BAR, console.width - _WIDTH_OF_TEXT)), table_column=Column(no_wrap=True)),
        _Numbers(Column(no_wrap=True)),
        console=console,
        transient=True,
    )
