"""Make the receipt of ``restore``: what arrived, how that was confirmed, what did not and why."""

from __future__ import annotations

import itertools
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backup_scp.cli.output import moment
from backup_scp.cli.restore_report import images_of, whose
from backup_scp.errors import IndexUnavailable
from backup_scp.receipts.receipt import Column, Receipt, Row
from backup_scp.receipts.study_columns import STUDY_COLUMNS, STUDY_KEYWORDS, STUDY_UID, study_cells
from backup_scp.services.restored_study import Confirmation, RestoredStudy

if TYPE_CHECKING:
    from backup_scp.cli.restore_summary import Missing
    from backup_scp.ports import IndexReader, Match, RemoteAE
    from backup_scp.services.restore_result import Restore

_MOST_PROBLEMS = 1000  # of one kind
_AT_ONCE = 500  # studies that are looked up with one query
_COLUMNS = (
    *STUDY_COLUMNS,
    Column("there", "There", 7),
    Column("confirmed", "Confirmed by", 20),
    Column("confirmation", "", 0),
    STUDY_UID,
)
_WORDS = {
    Confirmation.COMMITTED: "Storage Commitment",
    Confirmation.COUNTED: "C-STORE and C-FIND",
    Confirmation.ANSWERED: "C-STORE",
    Confirmation.SHORT: "C-STORE; C-FIND lists",
    Confirmation.NONE: "not there",
}


@dataclass(frozen=True, slots=True)
class Ends:
    """From where to where images were sent, and when.

    Attributes
    ----------
    ours
        Our AE title.
    archive
        The identity of the archive.
    name
        The name of the destination.
    remote
        The destination; None for a folder.
    implementation
        The implementation that it names.
    began_at, ended_at
        When.
    """

    ours: str
    archive: str
    name: str
    remote: RemoteAE | None
    implementation: str
    began_at: datetime
    ended_at: datetime


def receipt(done: Restore, lacking: Sequence[Missing], ends: Ends, index: IndexReader) -> Receipt:
    """Make the receipt of a restore; it reads ``index`` when its rows are read."""
    there = done.selected - done.missing
    if done.is_complete:
        result = f"Complete: {images_of(done.selected)} asked for, and all are on {ends.name}."
    else:
        result = f"NOT complete: {images_of(done.selected)} asked for, {there:,} are on {ends.name}. See Problems."
    problems = tuple(_problems(done, lacking, ends.name))
    rows = _rows(done, index, is_folder=ends.remote is None)
    return Receipt("Receipt of a restore", done.is_complete, result, _facts(done, ends), _COLUMNS, rows, problems)


def _facts(done: Restore, ends: Ends) -> dict[str, str | int]:
    from backup_scp import __version__

    remote = ends.remote
    to = f"{remote.name} ({remote.ae_title} at {remote.host}, port {remote.port})" if remote else f"folder {ends.name}"
    facts: dict[str, str | int] = {
        "From": f"{ends.ours} on {platform.node()}",
        "Version": f"backup-scp {__version__}",
        "Archive": ends.archive,
        "To": to,
        "Software there": ends.implementation or "it names none",
        "Command": shlex.join(["backup-scp", *sys.argv[1:]]),
        "Began": moment(ends.began_at),
        "Ended": moment(ends.ended_at),
        "Studies": len(done.studies),
        "Images asked for": done.selected,
        "Sent now": done.sent,
        "Bytes sent now": done.size_bytes,
        "Confirmed before": done.confirmed_before,
        "Not there": done.missing,
        "Committed": done.committed,
    }
    if remote is None:
        del facts["Software there"], facts["Committed"]
    return facts


# -- the studies -------------------------------------------------------------------------------------------------------


def _rows(done: Restore, index: IndexReader, *, is_folder: bool) -> Iterator[Row]:
    studies = iter(done.studies.items())
    while some := list(itertools.islice(studies, _AT_ONCE)):
        known = _known([uid for uid, _ in some], index)
        for uid, study in some:
            yield _row(uid, study, known.get(uid, {}), is_folder=is_folder)


def _row(uid: str, study: RestoredStudy, match: Match, *, is_folder: bool) -> Row:
    how = study.confirmation
    words = "read back" if is_folder and how is Confirmation.ANSWERED else _WORDS[how]
    if how is Confirmation.SHORT:
        words = f"{words} {study.counted}"
    if study.before:
        words += ", in part before" if study.sent else ", before"
    return (*study_cells(match, study.instances), study.arrived, words, how.value, uid)


def _known(uids: Sequence[str], index: IndexReader) -> dict[str, Match]:
    """Look up studies in the index; without the index, the receipt has their UIDs alone."""
    from backup_scp.dicom.attributes import BY_KEYWORD
    from backup_scp.dicom.query.information_model import Condition, Level, Query, UIDList

    shown = tuple(map(BY_KEYWORD.__getitem__, STUDY_KEYWORDS))
    wanted = Condition(BY_KEYWORD["StudyInstanceUID"], UIDList(tuple(uids)))
    try:
        with closing(index.search(Query(Level.STUDY, (wanted,), shown))) as found:
            return {match["StudyInstanceUID"]: match for match in found}
    except IndexUnavailable:
        return {}


# -- what went wrong ---------------------------------------------------------------------------------------------------


def _problems(done: Restore, lacking: Sequence[Missing], name: str) -> Iterator[str]:
    if done.interrupted:
        yield "It was interrupted."
    if done.stopped:
        yield f"It stopped: {done.stopped.replace('The destination', name, 1)}"
    if done.untried:
        yield f"{images_of(done.untried)} not tried, because it ended before."
    for line in done.unmatched[:_MOST_PROBLEMS]:
        yield f"No stored image matches {line}"
    yield from _further(len(done.unmatched), "lines of the list")
    for one in lacking[:_MOST_PROBLEMS]:
        yield f"{images_of(one.images)} not sent: {whose(one)}: {one.reason}"
    yield from _further(len(lacking), "series and reasons")
    if done.uncommitted:
        yield f"{images_of(len(done.uncommitted))} not confirmed committed: {done.no_commitment}"
    if done.short:
        yield f"{name} lists fewer images of {len(done.short):,} studies than it confirmed."
    if done.warnings:
        yield f"{images_of(len(done.warnings))} accepted with a warning."


def _further(number: int, what: str) -> Iterator[str]:
    if number > _MOST_PROBLEMS:
        yield f"And {number - _MOST_PROBLEMS:,} further {what}."
