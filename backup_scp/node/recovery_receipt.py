"""Write the receipt of a recovery: what came back, from where, compared how, and what is missing."""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from backup_scp import __version__
from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import Query
from backup_scp.errors import BackupSCPError, InvalidSelection
from backup_scp.machine import clock
from backup_scp.machine.readable import moment, size
from backup_scp.ports import IndexReader
from backup_scp.receipts.receipt import Column, Receipt, Row
from backup_scp.receipts.receipt_file import ReceiptFile
from backup_scp.receipts.study_columns import STUDY_COLUMNS, STUDY_KEYWORDS, STUDY_UID, study_cells
from backup_scp.services.recovery import Recovered

log = logging.getLogger(__name__)

_NAME = "recovery-receipt"
_MOST_IN_PDF = 5000  # studies: nobody prints more
_IMAGES = "NumberOfStudyRelatedInstances"
_COLUMNS = (*STUDY_COLUMNS, Column("missing", "Missing", 8), STUDY_UID)


def write_receipts(home: Path, index: IndexReader, done: Recovered, source: str, began_at: datetime) -> list[Path]:
    """Write the receipt as text and JSON, and as PDF where its library is installed; return the files.

    An error is told in the log: everything that came back is here without a receipt too.
    """
    written: list[Path] = []
    try:
        held = index.holdings()
        facts: dict[str, str | int] = {
            "To": f"{home} on {platform.node()}",
            "From": source,
            "Version": f"backup-scp {__version__}",
            "Began": moment(began_at),
            "Ended": moment(clock.now()),
            "Patients": held.patients,
            "Studies": held.studies,
            "Images here": done.here,
            "Fetched in the last run": done.brought,
            "Bytes of these": size(done.brought_bytes),
            "Known by the copy's lists alone": done.from_lists,
            "Not there": done.missing_count + done.unlisted,
            "Compared": "each file with the digest in its header, which the index confirms, while it came",
        }
        for suffix in (".txt", ".json", *([".pdf"] if held.studies <= _MOST_IN_PDF else [])):
            receipt = _receipt(index, done, facts)
            try:
                written.append(ReceiptFile(home / f"{_NAME}{suffix}").write(receipt))
            except InvalidSelection:  # no library for PDF
                continue
    except BackupSCPError as error:
        log.error("The receipt of the recovery could not be written: %s", error)
    return written


def source_of_receipt(home: Path) -> str:
    """Return from where the archive in a home has come back, as its receipt says; empty without one."""
    try:
        receipt = msgspec.json.decode((home / f"{_NAME}.json").read_bytes())
        return str(receipt["facts"]["from"])
    except (OSError, msgspec.MsgspecError, KeyError, TypeError):
        return ""


def _receipt(index: IndexReader, done: Recovered, facts: dict[str, str | int]) -> Receipt:
    result = "Complete: every image is here." if done.is_complete else "NOT complete: images are missing. See Problems."
    missing = Counter(each.held.study_instance_uid for each in done.missing)
    return Receipt(
        "Receipt of a recovery", done.is_complete, result, facts, _COLUMNS, _rows(index, missing), _problems(done)
    )


def _rows(index: IndexReader, missing: Counter[str]) -> Iterator[Row]:
    query = Query(Level.STUDY, (), tuple(map(BY_KEYWORD.__getitem__, (*STUDY_KEYWORDS, _IMAGES))))
    with closing(index.search(query)) as found:
        for match in found:
            uid = match["StudyInstanceUID"]
            yield (*study_cells(match, int(match.get(_IMAGES) or 0)), missing[uid], uid)


def _problems(done: Recovered) -> tuple[str, ...]:
    told = [f"Image {each.held.sop_instance_uid}: {each.reason}" for each in done.missing]
    if (more := done.missing_count - len(told)) > 0:
        told.append(f"And {more:,} further images.")
    if done.unlisted:
        told.append(f"{done.unlisted:,} images that only the lists of the copy name did not come: see the log.")
    return tuple(told)
