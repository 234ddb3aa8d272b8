"""Selections of a restore, in short form."""

from __future__ import annotations

from typing import Any

from backup_scp.dicom.attributes import BY_KEYWORD
from backup_scp.dicom.query.information_model import Condition, Range, SingleValue
from backup_scp.ports import Selection


def narrowed(
    *,
    study_instance_uid: str | None = None,
    patient_id: str | None = None,
    since: str | None = None,
    until: str | None = None,
    **rest: Any,
) -> Selection:
    """Return a selection with these conditions."""
    made = {
        "StudyInstanceUID": None if study_instance_uid is None else SingleValue(study_instance_uid),
        "PatientID": None if patient_id is None else SingleValue(patient_id),
        "StudyDate": Range(since, until) if since or until else None,
    }
    return Selection(tuple(Condition(BY_KEYWORD[key], one) for key, one in made.items() if one is not None), **rest)
