"""The content of a receipt, before it is text, JSON or PDF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

Row = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a receipt's table.

    Attributes
    ----------
    name
        Its name in JSON.
    heading
        Its heading for people.
    width
        Its usual width, in characters; 0 shows it in JSON only.
    """

    name: str
    heading: str
    width: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a command did.

    Attributes
    ----------
    title
        What it did, in a few words.
    complete
        Whether it did everything that it was asked for.
    result
        The result in a sentence.
    facts
        What was done, when, from where to where; by its name for people.
    columns, rows
        The table: usually a row for each study.  The rows are read once, one after another, so there may be many.
    problems
        What was not done and why, a sentence for each.
    """

    title: str
    complete: bool
    result: str
    facts: Mapping[str, str | int]
    columns: tuple[Column, ...]
    rows: Iterable[Row]
    problems: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns that people see."""
        return tuple(column for column in self.columns if column.width)

    def shown_rows(self) -> Iterator[Row]:
        """Yield the rows with these columns only."""
        for row in self.rows:
            yield tuple(value for value, column in zip(row, self.columns, strict=True) if column.width)


def printable(value: str | int) -> str:
    """Return a value as one line: foreign text may have control characters."""
    text = f"{value:,}" if isinstance(value, int) else value
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)
