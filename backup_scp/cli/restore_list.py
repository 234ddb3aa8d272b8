"""Read the list of ``restore --list``: patients, orders or studies, one a line."""

from __future__ import annotations

import codecs
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backup_scp.errors import InvalidSelection

if TYPE_CHECKING:
    from backup_scp.ports import Selection
    from backup_scp.services.worklist import Worklist

_FIRST_CELL = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^,;\t]*))')
_KEYS = ("StudyInstanceUID", "AccessionNumber", "PatientID")
_HEADINGS = {
    "patientid": "PatientID",
    "accessionnumber": "AccessionNumber",
    "accession": "AccessionNumber",
    "studyinstanceuid": "StudyInstanceUID",
}


def read(path: Path, narrowed: Selection) -> Worklist:
    """Read a list: the first column of a CSV file, or whole lines; ``#`` begins a comment.

    Under the heading ``Patient ID``, ``Accession Number`` or ``Study Instance UID`` the lines are that; without one,
    each may be any of them.

    Parameters
    ----------
    path
        A text file.
    narrowed
        What each line is narrowed to.

    Raises
    ------
    InvalidSelection
        It cannot be read, or names nothing.
    """
    from backup_scp.services.worklist import Wanted, Worklist

    cells = [cell for line in _text_of(path).splitlines() if (cell := _first_cell(line))]
    heading = _HEADINGS.get(re.sub(r"[\W_]", "", cells[0].lower())) if cells else None
    lines = list(dict.fromkeys(cells[1:] if heading else cells))
    if not lines:
        raise InvalidSelection(
            f"{path} names nothing: write a Patient ID, Accession Number or Study Instance UID a line"
        )
    keys = (heading,) if heading else _KEYS
    return Worklist([Wanted(line, tuple(_of(narrowed, key, line) for key in keys)) for line in lines])


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidSelection(f"{path} cannot be read ({error.strerror or type(error).__name__})") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    if b"\0" in content:
        raise InvalidSelection(f"{path} is no text file: save the table as CSV")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # the identifiers are ASCII, whatever other columns are


def _first_cell(line: str) -> str:
    """Return the first cell of a line; empty for a comment."""
    if line.lstrip().startswith("#") or (found := _FIRST_CELL.match(line)) is None:
        return ""
    quoted = found["quoted"]
    return (found["plain"] if quoted is None else quoted.replace('""', '"')).strip()


def _of(narrowed: Selection, keyword: str, value: str) -> Selection:
    from backup_scp.dicom.attributes import BY_KEYWORD
    from backup_scp.dicom.query.information_model import Condition, SingleValue

    condition = Condition(BY_KEYWORD[keyword], SingleValue(value))
    return replace(narrowed, conditions=(*narrowed.conditions, condition))
