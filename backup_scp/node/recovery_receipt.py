"""Write the receipt of a recovery: what came back, from where, compared how, and what is missing."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

import msgspec

from backup_scp import __version__
from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import Query
from backup_scp.errors import BackupSCPError, InvalidSelection
from backup_scp.machine import clock
from backup_scp.machine.readable import moment
from backup_scp.node.recovery_report import RecoveryReport
from backup_scp.ports import IndexReader
from backup_scp.receipts.receipt import Column, Receipt, Row
from backup_scp.receipts.receipt_file import ReceiptFile
from backup_scp.receipts.study_columns import STUDY_COLUMNS, STUDY_KEYWORDS, STUDY_UID, study_cells

log = logging.getLogger(__name__)

_NAME = "recovery-receipt"
_MOST_IN_PDF = 5000  # studies: nobody prints more
_IMAGES = "NumberOfStudyRelatedInstances"
_COLUMNS = (*STUDY_COLUMNS, Column("missing", "Missing", 8), STUDY_UID)


def write_receipts(
    home: Path, index: IndexReader, report: RecoveryReport, source: str, began_at: datetime
) -> list[Path]:
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
            **report.facts,
        }
        for suffix in (".txt", ".json", *([".pdf"] if held.studies <= _MOST_IN_PDF else [])):
            receipt = _receipt(index, report, facts)
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


def _receipt(index: IndexReader, report: RecoveryReport, facts: dict[str, str | int]) -> Receipt:
    rows, title = _rows(index, report.missing), "Receipt of a recovery"
    return Receipt(title, report.is_complete, report.sentence, facts, _COLUMNS, rows, report.problems)


def _rows(index: IndexReader, missing: Mapping[str, int]) -> Iterator[Row]:
    query = Query(Level.STUDY, (), tuple(map(BY_KEYWORD.__getitem__, (*STUDY_KEYWORDS, _IMAGES))))
    with closing(index.search(query)) as found:
        for match in found:
            uid = match["StudyInstanceUID"]
            yield (*study_cells(match, int(match.get(_IMAGES) or 0)), missing.get(uid, 0), uid)
