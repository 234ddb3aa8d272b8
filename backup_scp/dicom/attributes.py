"""The table of all attributes that the node can match and return.

The parser collects them, the index has a column for each, C-FIND returns them, the Conformance Statement lists them.
C-FIND returns any other attribute empty, with Status FF01 (PS3.4 C.4.1.1.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """Query/Retrieve Level (0008,0052), PS3.4 C.6."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"

    @property
    def depth(self) -> int:
        """0 at PATIENT to 3 at IMAGE."""
        return _DEPTH[self]


_DEPTH = {level: depth for depth, level in enumerate(Level)}


_SEVERAL_VALUES = frozenset(
    {"OtherPatientIDs", "NameOfPhysiciansReadingStudy", "ModalitiesInStudy", "SOPClassesInStudy"}
    | {"OperatorsName", "PerformingPhysicianName", "ImageType"}
)


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity, which is fast
class Attribute:
    """An attribute that queries may use.

    Attributes
    ----------
    keyword
        The element's keyword, PS3.6.
    tag
        Group and element as one number: 0x00100020 for (0010,0020).
    vr
        Value Representation, PS3.5 6.2.
    level
        The entity that it describes.
    column
        Its snake_case name in the index.
    kind
        ``unique``, ``required`` or ``optional`` key (PS3.4 C.2.2.1).
    computed
        Whether the index computes it, instead of reading it from a Data Set.
    items
        The item keys of a sequence (PS3.4 C.2.2.2.6); ``column`` of an item key is its keyword.
    has_several_values
        Whether its Value Multiplicity is above 1 (PS3.6); then it matches when any value does.
    may_be_listed
        Whether a backslash in a key always separates values (PS3.4 C.2.2.2.2, C.2.2.2.8).
    """

    keyword: str
    tag: int
    vr: str
    level: Level
    column: str
    kind: str = "optional"
    computed: bool = False
    items: tuple[Attribute, ...] = ()
    has_several_values: bool = field(init=False)
    may_be_listed: bool = field(init=False)

    def __post_init__(self) -> None:
        several = self.keyword in _SEVERAL_VALUES
        object.__setattr__(self, "has_several_values", several)
        object.__setattr__(self, "may_be_listed", several or self.vr == "UI")

    @property
    def named(self) -> str:
        """Keyword and tag, for errors."""
        return f"{self.keyword} ({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"


_P, _S, _E, _I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE


def _item_key(keyword: str, tag: int, vr: str) -> Attribute:
    return Attribute(keyword, tag, vr, _E, keyword)


# Request Attributes Macro, PS3.3 Table 10-9
_REQUEST_ATTRIBUTES = (
    _item_key("AccessionNumber", 0x00080050, "SH"),
    _item_key("StudyInstanceUID", 0x0020000D, "UI"),
    _item_key("RequestedProcedureDescription", 0x00321060, "LO"),
    _item_key("ScheduledProcedureStepDescription", 0x00400007, "LO"),
    _item_key("ScheduledProcedureStepID", 0x00400009, "SH"),
    _item_key("RequestedProcedureID", 0x00401001, "SH"),
)

ATTRIBUTES: tuple[Attribute, ...] = (
    # PATIENT level, PS3.4 Table C.6-1
    Attribute("PatientID", 0x00100020, "LO", _P, "patient_id", "unique"),
    Attribute("PatientName", 0x00100010, "PN", _P, "patient_name", "required"),
    Attribute("IssuerOfPatientID", 0x00100021, "LO", _P, "issuer_of_patient_id"),
    Attribute("PatientBirthDate", 0x00100030, "DA", _P, "patient_birth_date"),
    Attribute("PatientBirthTime", 0x00100032, "TM", _P, "patient_birth_time"),
    Attribute("PatientSex", 0x00100040, "CS", _P, "patient_sex"),
    Attribute("OtherPatientIDs", 0x00101000, "LO", _P, "other_patient_ids"),
    Attribute("PatientComments", 0x00104000, "LT", _P, "patient_comments"),
    Attribute(
        "NumberOfPatientRelatedStudies", 0x00201200, "IS", _P, "number_of_patient_related_studies", computed=True
    ),
    Attribute("NumberOfPatientRelatedSeries", 0x00201202, "IS", _P, "number_of_patient_related_series", computed=True),
    Attribute(
        "NumberOfPatientRelatedInstances", 0x00201204, "IS", _P, "number_of_patient_related_instances", computed=True
    ),
    # STUDY level, PS3.4 Table C.6-2
    Attribute("StudyInstanceUID", 0x0020000D, "UI", _S, "study_instance_uid", "unique"),
    Attribute("StudyDate", 0x00080020, "DA", _S, "study_date", "required"),
    Attribute("StudyTime", 0x00080030, "TM", _S, "study_time", "required"),
    Attribute("AccessionNumber", 0x00080050, "SH", _S, "accession_number", "required"),
    Attribute("StudyID", 0x00200010, "SH", _S, "study_id", "required"),
    Attribute("StudyDescription", 0x00081030, "LO", _S, "study_description"),
    Attribute("ReferringPhysicianName", 0x00080090, "PN", _S, "referring_physician_name"),
    Attribute("NameOfPhysiciansReadingStudy", 0x00081060, "PN", _S, "name_of_physicians_reading_study"),
    Attribute("PatientAge", 0x00101010, "AS", _S, "patient_age"),
    Attribute("PatientSize", 0x00101020, "DS", _S, "patient_size"),
    Attribute("PatientWeight", 0x00101030, "DS", _S, "patient_weight"),
    Attribute("TimezoneOffsetFromUTC", 0x00080201, "SH", _S, "timezone_offset_from_utc"),
    Attribute("ModalitiesInStudy", 0x00080061, "CS", _S, "modalities_in_study", computed=True),
    Attribute("SOPClassesInStudy", 0x00080062, "UI", _S, "sop_classes_in_study", computed=True),
    Attribute("NumberOfStudyRelatedSeries", 0x00201206, "IS", _S, "number_of_study_related_series", computed=True),
    Attribute(
        "NumberOfStudyRelatedInstances", 0x00201208, "IS", _S, "number_of_study_related_instances", computed=True
    ),
    # SERIES level, PS3.4 Table C.6-3
    Attribute("SeriesInstanceUID", 0x0020000E, "UI", _E, "series_instance_uid", "unique"),
    Attribute("Modality", 0x00080060, "CS", _E, "modality", "required"),
    Attribute("SeriesNumber", 0x00200011, "IS", _E, "series_number", "required"),
    Attribute("SeriesDescription", 0x0008103E, "LO", _E, "series_description"),
    Attribute("SeriesDate", 0x00080021, "DA", _E, "series_date"),
    Attribute("SeriesTime", 0x00080031, "TM", _E, "series_time"),
    Attribute("BodyPartExamined", 0x00180015, "CS", _E, "body_part_examined"),
    Attribute("Laterality", 0x00200060, "CS", _E, "laterality"),
    Attribute("ProtocolName", 0x00181030, "LO", _E, "protocol_name"),
    Attribute("PerformedProcedureStepStartDate", 0x00400244, "DA", _E, "performed_procedure_step_start_date"),
    Attribute("PerformedProcedureStepStartTime", 0x00400245, "TM", _E, "performed_procedure_step_start_time"),
    Attribute(
        "RequestAttributesSequence", 0x00400275, "SQ", _E, "request_attributes_sequence", items=_REQUEST_ATTRIBUTES
    ),
    Attribute("InstitutionName", 0x00080080, "LO", _E, "institution_name"),
    Attribute("StationName", 0x00081010, "SH", _E, "station_name"),
    Attribute("Manufacturer", 0x00080070, "LO", _E, "manufacturer"),
    Attribute("ManufacturerModelName", 0x00081090, "LO", _E, "manufacturer_model_name"),
    Attribute("OperatorsName", 0x00081070, "PN", _E, "operators_name"),
    Attribute("PerformingPhysicianName", 0x00081050, "PN", _E, "performing_physician_name"),
    Attribute(
        "NumberOfSeriesRelatedInstances", 0x00201209, "IS", _E, "number_of_series_related_instances", computed=True
    ),
    # IMAGE level, PS3.4 Table C.6-4
    Attribute("SOPInstanceUID", 0x00080018, "UI", _I, "sop_instance_uid", "unique"),
    Attribute("SOPClassUID", 0x00080016, "UI", _I, "sop_class_uid"),
    Attribute("InstanceNumber", 0x00200013, "IS", _I, "instance_number", "required"),
    Attribute("ContentDate", 0x00080023, "DA", _I, "content_date"),
    Attribute("ContentTime", 0x00080033, "TM", _I, "content_time"),
    Attribute("AcquisitionDate", 0x00080022, "DA", _I, "acquisition_date"),
    Attribute("AcquisitionTime", 0x00080032, "TM", _I, "acquisition_time"),
    Attribute("AcquisitionNumber", 0x00200012, "IS", _I, "acquisition_number"),
    Attribute("ImageType", 0x00080008, "CS", _I, "image_type"),
    Attribute("ViewPosition", 0x00185101, "CS", _I, "view_position"),
    Attribute("ImageLaterality", 0x00200062, "CS", _I, "image_laterality"),
    Attribute("NumberOfFrames", 0x00280008, "IS", _I, "number_of_frames"),
    Attribute("Rows", 0x00280010, "US", _I, "rows"),
    Attribute("Columns", 0x00280011, "US", _I, "columns"),
    Attribute("BitsAllocated", 0x00280100, "US", _I, "bits_allocated"),
)

AVAILABLE_TRANSFER_SYNTAX_UID = Attribute(
    "AvailableTransferSyntaxUID", 0x00083002, "UI", _I, "available_transfer_syntax_uid", computed=True
)
"""Only returned, and only by QIDO-RS: the Transfer Syntax of the stored version, which is not in the Data Set."""

BY_KEYWORD: dict[str, Attribute] = {attribute.keyword: attribute for attribute in ATTRIBUTES}
BY_TAG: dict[int, Attribute] = {attribute.tag: attribute for attribute in ATTRIBUTES}
READ_FROM_DATA_SET: frozenset[int] = frozenset(a.tag for a in ATTRIBUTES if not a.computed)
UNIQUE_KEY: dict[Level, Attribute] = {a.level: a for a in ATTRIBUTES if a.kind == "unique"}
