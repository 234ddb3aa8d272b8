"""The tables of the Conformance Statement, by their titles."""

from __future__ import annotations

import functools
import re

from tests.processes import ROOT

PATH = ROOT / "docs" / "conformance-statement.md"

_TABLE = re.compile(r"^\*\*Table (\S+)\. (.+)\*\*\n\n((?:\|.*\n)+)", re.MULTILINE)
_CELL = re.compile(r"(?<!\\)\|")


@functools.cache
def text() -> str:
    return PATH.read_text("utf-8")


@functools.cache
def tables() -> dict[str, tuple[dict[str, str], ...]]:
    """Return the rows of each table, by its title; cells by the heading of their column."""
    return {title: _rows(lines.splitlines()) for _, title, lines in _TABLE.findall(text())}


def table(title: str) -> tuple[dict[str, str], ...]:
    return tables()[title]


def numbers() -> list[str]:
    """Return the numbers of the tables, in their order."""
    return [number for number, _, _ in _TABLE.findall(text())]


def _rows(lines: list[str]) -> tuple[dict[str, str], ...]:
    header, _, *rows = [[cell.strip() for cell in _CELL.split(line)[1:-1]] for line in lines]
    return tuple(dict(zip(header, row, strict=True)) for row in rows)
