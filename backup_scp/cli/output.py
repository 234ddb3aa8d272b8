"""What commands print: sentences for people, JSON for programs, progress on the side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backup_scp.cli.log import escape

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBars

    from backup_scp.forecast import Forecast
    from backup_scp.ports import Progress

LIST_LIMIT = 20
"""Lines of a list on the screen; --json has them all."""


_EACH_BYTES = 300_000  # what an image takes of the time, beside its bytes: many are small, and one is large


def say(sentence: str = "") -> None:
    """Print a line for a person; what came from elsewhere cannot command the terminal."""
    print(escape(sentence))


def complain(sentence: str) -> None:
    """Print a line on the standard error output."""
    print(f"backup-scp: {escape(sentence)}", file=sys.stderr)


def say_list(lines: Iterable[str], total: int) -> None:
    """Print the first lines of a list, indented, and how many more there are."""
    shown = 0
    for line in lines:
        if shown == LIST_LIMIT:
            break
        say(f"  {line}")
        shown += 1
    if total > shown:
        say(f"  and {total - shown} more (--json lists them)")


def print_json(value: Any) -> None:
    """Print one JSON value in one line; dates as ISO 8601, dataclasses as objects."""
    import msgspec

    print(msgspec.json.encode(value).decode())


def size(number_of_bytes: float) -> str:
    """Write a size in the unit that suits it: ``1.4 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number_of_bytes < 1000:
            return f"{number_of_bytes:.0f} bytes" if unit == "bytes" else f"{number_of_bytes:.1f} {unit}"
        number_of_bytes /= 1000
    return f"{number_of_bytes:.1f} TB"


def count(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 study``, ``2 studies``."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun if noun.endswith('s') else noun + 's'}"


def expected(forecast: Forecast) -> str:
    """Write when the disk will be full."""
    if not forecast.is_known:
        return "no forecast: images have come in for less than a week"
    pace = f"at {size(forecast.bytes_per_day)} a day, as in the last {forecast.observed_days:.0f} days"
    return f"full about {forecast.full_on} {pace}" if forecast.full_on else f"enough for ten years {pace}"


def moment(value: datetime | None) -> str:
    """Write a time as this computer's clock shows it."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if value else "never"


def instant(value: datetime) -> str:
    """Write a time as --as-of reads it, to the microsecond and with its offset: one moment, whatever the clock does."""
    return value.astimezone().isoformat(timespec="microseconds")


@contextmanager
def progress(label: str) -> Iterator[Callable[[Progress], None]]:
    """Show how far long work has come, where someone can see it: only on a terminal, on the standard error output."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with _bars() as bars:
        task = bars.add_task(label, total=None, text="")  # the column asks for it as soon as the bar is there

        def show(at: Progress) -> None:
            done, total = work(at)
            bars.update(task, completed=done, total=total or None, text=_progress_text(at))

        yield show


def work(at: Progress) -> tuple[int, int]:
    """Estimate the work that is done, and all of it, in one unit: each image counts, and its bytes if known."""
    if not at.total_bytes:
        return at.done, at.total
    return at.done * _EACH_BYTES + at.done_bytes, at.total * _EACH_BYTES + at.total_bytes


def _bars() -> ProgressBars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _progress_text(at: Progress) -> str:
    of = f" of {at.total}" if at.total else ""
    return f"{at.done}{of}" + (f", {size(at.done_bytes)}" if at.done_bytes else "")
