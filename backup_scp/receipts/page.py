"""The content of a page for the wall, before it is text or PDF."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """One line, or some when it is long.

    Attributes
    ----------
    text
        For people.
    mark
        What stands before it: a number, a sign, or a word.
    is_typed
        Whether it is to be typed as it is.
    """

    text: str
    mark: str = ""
    is_typed: bool = False


class Section(NamedTuple):
    """A heading and what stands below it."""

    heading: str
    lines: tuple[Line, ...]


class Page(NamedTuple):
    """A page.

    Attributes
    ----------
    title
        In large letters.
    lines
        Below the title.
    sections
        The rest.
    """

    title: str
    lines: tuple[Line, ...]
    sections: tuple[Section, ...]
