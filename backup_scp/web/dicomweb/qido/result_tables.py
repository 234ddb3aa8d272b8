"""Which attributes each kind of result has (PS3.18 Tables 10.6.3-3 to 10.6.3-5)."""

from __future__ import annotations

from collections.abc import Iterable

from backup_scp.dicom.attributes import ATTRIBUTES, AVAILABLE_TRANSFER_SYNTAX_UID, BY_KEYWORD, Attribute, Level

REQUIRED: dict[Level, tuple[Attribute, ...]] = {
    Level.STUDY: tuple(
        BY_KEYWORD[keyword]
        for keyword in (
            "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName",
            "TimezoneOffsetFromUTC", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
            "StudyID", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
        )
    ),
    Level.SERIES: tuple(
        BY_KEYWORD[keyword]
        for keyword in (
            "Modality", "TimezoneOffsetFromUTC", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber",
            "NumberOfSeriesRelatedInstances", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
            "RequestAttributesSequence",
        )
    ),
    Level.IMAGE: (
        *(
            BY_KEYWORD[keyword]
            for keyword in (
                "SOPClassUID", "SOPInstanceUID", "TimezoneOffsetFromUTC", "InstanceNumber", "Rows", "Columns",
                "BitsAllocated", "NumberOfFrames",
            )
        ),
        AVAILABLE_TRANSFER_SYNTAX_UID,
    ),
}  # fmt: skip
"""What each result of a resource has; the unique keys above it come with it."""

# Modalities in Study would be there and empty by the standard; OHIF 3.13 then shows no study at all (docs/adr/0056).
IF_KNOWN = frozenset(
    BY_KEYWORD[keyword].tag
    for keyword in (
        "ModalitiesInStudy", "TimezoneOffsetFromUTC", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
    )
) | {AVAILABLE_TRANSFER_SYNTAX_UID.tag}  # fmt: skip
"""Tags of attributes that a result without their value leaves out, unless they were requested."""

ITEM_KEYS: dict[int, tuple[Attribute, ...]] = {
    BY_KEYWORD["RequestAttributesSequence"].tag: tuple(
        key
        for key in BY_KEYWORD["RequestAttributesSequence"].items
        if key.keyword in ("ScheduledProcedureStepID", "RequestedProcedureID")
    )
}
"""The item keys of a sequence in a result that did not request it."""

_LEVELS = (Level.STUDY, Level.SERIES, Level.IMAGE)


def required(level: Level, above: Iterable[Level]) -> tuple[Attribute, ...]:
    """List the attributes of a result at a level; ``above`` are levels that the path of the resource does not name."""
    levels = [each for each in _LEVELS if each is level or each in above]
    return tuple(dict.fromkeys(attribute for each in levels for attribute in REQUIRED[each]))


def every(level: Level) -> tuple[Attribute, ...]:
    """List what ``includefield=all`` returns: all attributes of a level; those of a patient belong to the study."""
    return tuple(a for a in ATTRIBUTES if a.level is level or (level is Level.STUDY and a.level is Level.PATIENT))
