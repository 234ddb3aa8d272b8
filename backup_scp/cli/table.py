"""Print tables that fit the terminal, without cutting a value."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence

from backup_scp.cli.log import escape

_GAP = "  "


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], apart: Collection[str] = ()) -> None:
    """Print rows below the titles of their columns.

    If the terminal is too narrow, each column of ``apart`` gets its own line below the row.  If that is still too wide,
    each row becomes a list of its values.  The terminal itself wraps a longer value, so that it can be copied whole.

    Parameters
    ----------
    columns
        The titles.
    rows
        A value for each column.
    apart
        Titles of columns that may get a line of their own: UIDs.
    """
    cells = [[escape(value) for value in row] for row in rows]
    room = _room()
    beside = [number for number, title in enumerate(columns) if title not in apart]
    below = [number for number, title in enumerate(columns) if title in apart]
    if _width(columns, cells, range(len(columns))) <= room:
        _print_lines(columns, cells, range(len(columns)), ())
    elif below and beside and _width(columns, cells, beside) <= room:
        _print_lines(columns, cells, beside, below)
    else:
        _print_lists(columns, cells)


def _room() -> int:
    """Return the width of the terminal, in columns; without a terminal a very large number."""
    if not sys.stdout.isatty():
        return sys.maxsize
    return os.get_terminal_size(sys.stdout.fileno()).columns or sys.maxsize


def _width(columns: Sequence[str], cells: Sequence[Sequence[str]], shown: Sequence[int]) -> int:
    return sum(_widths(columns, cells, shown)) + len(_GAP) * (len(shown) - 1)


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]], shown: Sequence[int]) -> list[int]:
    return [max(_length(columns[number]), *(_length(row[number]) for row in cells)) for number in shown]


def _print_lines(
    columns: Sequence[str], cells: Sequence[Sequence[str]], shown: Sequence[int], below: Sequence[int]
) -> None:
    widths = _widths(columns, cells, shown)
    for row in (columns, *cells):
        padded = (_padded(row[number], width) for number, width in zip(shown, widths, strict=True))
        print(_GAP.join(padded).rstrip())
        for number in below:
            print(f"{_GAP}{row[number]}")


def _print_lists(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    longest = max(map(_length, columns))
    for number, row in enumerate(cells):
        if number:
            print()
        for title, value in zip(columns, row, strict=True):
            if value:
                print(f"{_padded(title, longest)}{_GAP}{value}")


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _length(text))


def _length(text: str) -> int:
    """Return the columns that a text takes; an ideograph takes two."""
    from rich.cells import cell_len

    return cell_len(text)
