"""Writes the Conformance Statement: prose from its template, every table and number from the code (PS3.2 Annex N).

``python -m docs.conformance_statement`` makes docs/conformance-statement.md again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from backup_scp import __version__
from docs import conformance_keys, conformance_tables, conformance_web

STATEMENT = Path(__file__).with_name("conformance-statement.md")
TEMPLATE = Path(__file__).with_name("conformance-statement.template.md")

_PLACE = re.compile(r"\{\{(\w+)(?: ([^}]+))?\}\}")
_HEADING = re.compile(r"^(##+) (.+)$", re.MULTILINE)


def statement() -> str:
    """Write the whole document."""
    text = _PLACE.sub(lambda place: _made(place[1], place[2]), TEMPLATE.read_text("utf-8"))
    return text.replace("[[contents]]", _contents(text))


def _made(name: str, argument: str | None) -> str:
    """Make what stands at one place: ``{{function}}``, or ``{{function argument}}``."""
    if name == "version":
        return __version__
    modules = (conformance_keys, conformance_web, conformance_tables)
    make: Callable[..., str] = next(getattr(module, name) for module in modules if hasattr(module, name))
    return make(argument) if argument else make()


def _contents(text: str) -> str:
    return "\n".join(
        f"{'  ' * (len(marks) - 2)}- [{title}](#{_anchor(title)})"
        for marks, title in _HEADING.findall(text)
        if len(marks) <= 4
    )


def _anchor(title: str) -> str:
    """Name a heading as those who show Markdown do."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    STATEMENT.write_text(statement(), "utf-8")
