"""The columns of a receipt that name a study."""

from __future__ import annotations

from collections.abc import Mapping

from backup_scp.receipts.receipt import Column, Row

STUDY_KEYWORDS = ("StudyDate", "PatientID", "PatientName", "AccessionNumber")
STUDY_COLUMNS = (
    Column("study_date", "Date", 11),
    Column("patient_id", "Patient ID", 14),
    Column("patient_name", "Patient's name", 30),
    Column("accession_number", "Accession", 16),
    Column("images", "Images", 7),
)
STUDY_UID = Column("study_instance_uid", "", 0)


def study_cells(match: Mapping[str, str], images: int) -> Row:
    """Return the first cells of a study's row; those that the index does not know are empty."""
    date, *rest = (match.get(keyword, "") for keyword in STUDY_KEYWORDS)
    return (_day(date), *rest, images)


def _day(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == len("20260131") and date.isdigit() else date
