"""SOPInstance: identity and query attributes, from the only parse of a Data Set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SOPInstance:
    """What the node knows of a Data Set.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid, transfer_syntax_uid
        As written, without padding (trailing NUL and blanks); empty where the Data Set has none.
    attributes
        Keyword to value for the attributes of the table in ``attributes.py`` that the Data Set has with a value:
        Unicode, several values joined by a backslash, padding removed.
    parsed
        False when the Data Set could not be read: then everything comes from the Command Set.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    parsed: bool = True
