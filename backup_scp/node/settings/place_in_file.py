"""Find the line of the settings file that a sentence is about."""

from __future__ import annotations

import re
from pathlib import Path

_ABOUT = re.compile(
    r"(?P<head>\[{1,2}[\w.]+\]{1,2})(?: number (?P<number>\d+))?[:,]? *(?:there is no setting )?(?P<key>\w*)"
)
_NO_SECTION = re.compile(r"there is no section (?P<name>[\w.]+)")


def with_line(sentence: str, file: Path | None, text: str) -> str:
    """Return the sentence with the number of the line that it is about, where that can be found."""
    before = f"{file}: "
    said = sentence.removeprefix(before)
    number = _line_about(said, text.splitlines())
    if file is None or not number:
        return sentence
    return f"{file}, line {number}: {said}"


def _line_about(said: str, lines: list[str]) -> int:
    """Return the number, from 1; 0 when the file has no such line."""
    if (missing := _NO_SECTION.match(said)) is not None:
        return _first(lines, range(len(lines)), rf"\s*\[+\s*{re.escape(missing['name'])}\s*\]")
    about = _ABOUT.match(said)
    if about is None:
        return 0
    heads = [place for place, line in enumerate(lines) if line.split("#")[0].strip() == about["head"]]
    which = int(about["number"] or 1) - 1
    if which >= len(heads):
        return 0
    after = heads[which] + 1
    end = next((place for place in range(after, len(lines)) if lines[place].lstrip().startswith("[")), len(lines))
    return _first(lines, range(after, end), rf"\s*{about['key']}\s*=") if about["key"] else heads[which] + 1 or after


def _first(lines: list[str], places: range, pattern: str) -> int:
    return next((place + 1 for place in places if re.match(pattern, lines[place])), places.start)
