"""Print results: sentences for people, JSON for programs, progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backup_scp.cli.log import escape
from backup_scp.machine.readable import count, moment, size

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBars

    from backup_scp.ports import Progress

__all__ = [
    "LIST_LIMIT",
    "complain",
    "count",
    "instant",
    "moment",
    "print_json",
    "progress",
    "say",
    "say_list",
    "size",
    "waits_for",
]

LIST_LIMIT = 20
"""Limit of a list's lines on the screen; --json has all."""


_WIDE = 70  # columns
_EACH_BYTES = 300_000  # time for each image, expressed in bytes, so that small images count too


def say(sentence: str = "") -> None:
    """Print a line for a person, with control characters escaped, so that foreign text cannot control the terminal."""
    print(escape(sentence))


def complain(sentence: str) -> None:
    """Print a line to standard error."""
    print(f"backup-scp: {escape(sentence)}", file=sys.stderr)


def waits_for(sentence: str) -> None:
    """Show on a terminal what the command waits for, in a line that the next call removes; empty for nothing more."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{escape(sentence)}", end="", file=sys.stderr, flush=True)


def say_list(lines: Iterable[str], total: int) -> None:
    """Print the first lines of a list, indented, and the number of the others."""
    shown = 0
    for line in lines:
        if shown == LIST_LIMIT:
            break
        say(f"  {line}")
        shown += 1
    if total > shown:
        say(f"  and {total - shown} more (--json lists them)")


def print_json(value: Any) -> None:
    """Print a JSON value in one line; dates as ISO 8601, dataclasses as objects."""
    import msgspec

    print(msgspec.json.encode(value).decode())


def instant(value: datetime) -> str:
    """Format a time for --as-of, to the microsecond and with its offset, so that it is unambiguous."""
    return value.astimezone().isoformat(timespec="microseconds")


@contextmanager
def progress(label: str) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of long work, on standard error and only on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with _bars() as bars:
        if bars.console.width < _WIDE:
            label = label.partition(" ")[0]
        task = bars.add_task(label, total=None, text="")  # the column needs it as soon as the bar exists

        def show(at: Progress) -> None:
            done, total = work(at)
            bars.update(task, completed=done, total=total or None, text=_progress_text(at))

        yield show


def work(at: Progress) -> tuple[int, int]:
    """Estimate the completed and the total work in one unit: each image counts, and its bytes if known."""
    if not at.total_bytes:
        return at.done, at.total
    return at.done * _EACH_BYTES + at.done_bytes, at.total * _EACH_BYTES + at.total_bytes


def _bars() -> ProgressBars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        *([BarColumn()] if console.width >= _WIDE else []),  # on a narrow terminal only the numbers
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _progress_text(at: Progress) -> str:
    of = f" of {at.total}" if at.total else ""
    return f"{at.done}{of}" + (f", {size(at.done_bytes)}" if at.done_bytes else "")
