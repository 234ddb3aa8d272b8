"""backup-scp find."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backup_scp.cli.options import AsOfOption, ConfigOption, JSONOption, Versions, settings_of, takes_groups
from backup_scp.cli.output import complain, count, instant, print_json, say
from backup_scp.cli.selecting import SelectionOptions
from backup_scp.cli.table import print_table
from backup_scp.errors import InvalidSelection

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from datetime import datetime

    from backup_scp.dicom.query.information_model import Condition, Query
    from backup_scp.ports import Archive, StudyReader, Version


class FindLevel(StrEnum):
    """What one line of the answer is."""

    PATIENT = "patient"
    STUDY = "study"
    SERIES = "series"
    IMAGE = "image"


_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY = ("PatientID", "PatientName", "StudyDate", "AccessionNumber")
KEYS = {
    FindLevel.PATIENT: (*_PATIENT, "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedInstances"),
    FindLevel.STUDY: (
        *_STUDY,
        "ModalitiesInStudy",
        "StudyDescription",
        "NumberOfStudyRelatedInstances",
        "StudyInstanceUID",
    ),
    FindLevel.SERIES: (
        *_STUDY,
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "SeriesInstanceUID",
    ),
    FindLevel.IMAGE: (*_STUDY, "Modality", "SeriesNumber", "InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
_DIGITS = 20
_IMAGE = ("PatientID", "PatientName", "StudyDate", "SeriesNumber", "InstanceNumber", "SOPInstanceUID")
_VERSION = ("Received", "Sender", "SHA-256", "Used for queries", "Flags")
_TITLES = {
    "PatientID": "Patient ID",
    "PatientName": "Name",
    "PatientBirthDate": "Born",
    "PatientSex": "Sex",
    "StudyDate": "Date",
    "AccessionNumber": "Accession",
    "ModalitiesInStudy": "Modalities",
    "StudyDescription": "Description",
    "SeriesNumber": "Series",
    "SeriesDescription": "Description",
    "InstanceNumber": "Image",
    "NumberOfPatientRelatedStudies": "Studies",
    "NumberOfPatientRelatedInstances": "Images",
    "NumberOfStudyRelatedInstances": "Images",
    "NumberOfSeriesRelatedInstances": "Images",
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
    "SOPClassUID": "SOP Class UID",
    "SOPInstanceUID": "SOP Instance UID",
}
_UIDS = [title for title in _TITLES.values() if title.endswith(" UID")]
_ORDER = ("PatientID", "StudyDate", "StudyInstanceUID", "SeriesNumber", "SeriesInstanceUID", "InstanceNumber")


LevelOption = Annotated[
    FindLevel | None,
    typer.Option(
        metavar="patient|study|series|image",
        help="What one line of the answer is; a study by default.",
        show_default=False,
    ),
]
VersionsOption = Annotated[
    Versions,
    typer.Option(metavar="one|all", help="all: a line for each version of each image: arrival, sender and SHA-256."),
]
LimitOption = Annotated[int, typer.Option(min=0, metavar="N", help="Print at most N lines; 0 prints all.")]


@takes_groups
def find(
    context: typer.Context,
    *,
    selected: SelectionOptions,
    level: LevelOption = None,
    versions: VersionsOption = Versions.ONE,
    as_of: AsOfOption = None,
    limit: LimitOption = 100,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Search the archive.

    The answers contain patients' names: do not write them to a log. --json prints one object a line.

    --versions all prints a line for each stored version of each image, oldest first. The search still uses the version
    that answers queries. Pass the column Received to restore --as-of, or SHA-256 to restore --version.

    --as-of searches the archive as it was at that time: names, counts and matches. Studies changed since then are read
    from their files; --study makes that fast.
    """
    settings = settings_of(context, config)
    every_version = versions is Versions.ALL
    level = _level(level, selected, as_of, every_version=every_version)
    modality = "ModalitiesInStudy" if level in {FindLevel.PATIENT, FindLevel.STUDY} else "Modality"
    query = _query(level, selected.conditions(modality))
    from backup_scp.node.opening import OpenStores

    with OpenStores(settings) as storage:
        past, index = _Past(storage.archive), storage.index.seen_by(selected.scope)
        if as_of:
            answers = index.search_as_of(query, as_of, past.read)
        else:
            answers = _versions(index, query) if every_version else index.search(query)
        with closing(answers):
            some = list(islice(answers, limit + 1 if limit else None))
    found = some[:limit] if limit else some
    if level is FindLevel.IMAGE:
        found.sort(key=_in_order)
    if json:
        for answer in found:
            print_json(answer)
    else:
        _print(found, level, every_version=every_version)
        if len(some) > len(found):
            say(f"There are more: these are the first {limit} (--limit)")
    past.require_complete()


def _level(
    level: FindLevel | None, selected: SelectionOptions, as_of: datetime | None, *, every_version: bool
) -> FindLevel:
    """Return the level; raise for options that contradict it."""
    if every_version and level not in {None, FindLevel.IMAGE}:
        raise InvalidSelection("--versions all lists images: leave out --level, or type --level image")
    level = level or (FindLevel.IMAGE if every_version or selected.instance else FindLevel.STUDY)
    if as_of and (every_version or level is FindLevel.PATIENT):
        raise InvalidSelection("--as-of searches studies, series and images: leave out --versions and --level patient")
    return level


def _print(found: list[dict[str, Any]], level: FindLevel, *, every_version: bool) -> None:
    """Print a table, for a person."""
    if not found:
        say("No stored image matches")
        return
    columns = (*_IMAGE, *_VERSION) if every_version else KEYS[level]
    rows = [_version_cells(row) if every_version else _cells(row, columns) for row in found]
    print_table([_TITLES.get(column, column) for column in columns], rows, _UIDS)


class _Past:
    """Reads versions from their files, and counts unreadable ones."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._unreadable = 0

    def read(self, location: str) -> Version | None:
        from backup_scp.errors import Damaged
        from backup_scp.services.read_back import version_of

        try:
            return version_of(self._archive, location, verify=False)
        except Damaged:
            self._unreadable += 1
            return None

    def require_complete(self) -> None:
        """If files could not be read, print their number and exit with code 1."""
        if self._unreadable:
            left_out = count(self._unreadable, "file")
            complain(f"{left_out} of that time cannot be read and left out: backup-scp verify names them")
            raise typer.Exit(1)


def _in_order(row: dict[str, Any]) -> tuple[tuple[int, str], ...]:
    """Return a sort key that orders numbers by value, other text by characters."""
    values = (str(row.get(keyword, "")) for keyword in _ORDER)
    return tuple((int(value) if value.isdecimal() and len(value) < _DIGITS else 0, value) for value in values)


def _cells(row: dict[str, Any], columns: Iterable[str]) -> list[str]:
    return [row.get(column, "").replace("\\", ", ") for column in columns]


def _versions(index: StudyReader, query: Query) -> Generator[dict[str, Any], None, None]:
    with closing(index.search_versions(query)) as versions:
        for version in versions:
            facts = version._asdict()
            del facts["match"], facts["arrival"]
            yield {**version.match, **asdict(version.arrival), **facts}


def _version_cells(row: dict[str, Any]) -> list[str]:
    known = ", ".join(filter(None, (row["remote"], row["site"])))
    return [
        *_cells(row, _IMAGE),
        instant(row["received_at"]),
        (row["calling_ae_title"] or row["service"]) + (f" ({known})" if known else ""),
        row["sha256"][:12],
        "yes" if row["answering"] else "",
        ", ".join(row["flags"]),
    ]


def _query(level: FindLevel, conditions: tuple[Condition, ...]) -> Query:
    from backup_scp.dicom.attributes import BY_KEYWORD
    from backup_scp.dicom.query.information_model import Level, Query

    depth = Level(level.upper()).depth
    below = [one.attribute.keyword for one in conditions if one.attribute.level.depth > depth]
    if below:
        fix = "image" if "SOPInstanceUID" in below else "study"
        raise InvalidSelection(f"--level {level} cannot be narrowed by {', '.join(below)}: use --level {fix}")
    return Query(Level(level.upper()), conditions, tuple(BY_KEYWORD[column] for column in KEYS[level]))
