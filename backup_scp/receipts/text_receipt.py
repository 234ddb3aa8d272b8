"""Write a receipt as text, UTF-8."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import BinaryIO

from backup_scp.receipts.receipt import Column, Receipt, Row, printable

SIGNATURE = ("Date", "Name", "Signature")


def write_text(receipt: Receipt, stream: BinaryIO) -> None:
    """Write a receipt as text."""
    stream.writelines(f"{line.rstrip()}\n".encode() for line in _lines(receipt))


def _lines(receipt: Receipt) -> Iterator[str]:
    yield receipt.title
    yield "=" * len(receipt.title)
    yield ""
    yield printable(receipt.result)
    yield ""
    longest = max(map(len, receipt.facts), default=0)
    for name, value in receipt.facts.items():
        yield f"{name:<{longest}}  {printable(value)}"
    if receipt.problems:
        yield ""
        yield "Problems"
        yield from (f"- {printable(problem)}" for problem in receipt.problems)
    yield ""
    columns = receipt.shown
    yield _line(columns, tuple(column.heading for column in columns))
    yield "  ".join("-" * column.width for column in columns)
    yield from (_line(columns, row) for row in receipt.shown_rows())
    yield ""
    yield ""
    yield "   ".join(f"{what}: {'_' * 20}" for what in SIGNATURE)


def _line(columns: tuple[Column, ...], row: Row) -> str:
    return "  ".join(_padded(value, column.width) for column, value in zip(columns, row, strict=True))


def _padded(value: str | int, width: int) -> str:
    text = printable(value)
    blanks = " " * (width - sum(1 + (unicodedata.east_asian_width(each) in "WF") for each in text))
    return f"{blanks}{text}" if isinstance(value, int) else f"{text}{blanks}"
