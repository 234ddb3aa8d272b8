"""Answer SOP Class Extended Negotiation of Query/Retrieve (PS3.4 C.5.1.1, C.5.2.1, C.5.3.1; PS3.7 D.3.3.5)."""

from __future__ import annotations

from backup_scp.dicom.query.information_model import MODELS, Negotiated

__all__ = ["FIND_BYTES", "RETRIEVE_BYTES", "answer", "negotiated"]

NOT_DONE = ""

FIND_BYTES = (
    "relational",
    "date_time",
    "fuzzy_names",
    "time_zone",
    NOT_DONE,  # Query/Retrieve View of Enhanced Multi-Frame images
    "empty_values",
    "multiple_values",
)
"""Meaning of each byte of the Service-class-application-information, PS3.4 Tables C.5-1 and C.5-2."""

RETRIEVE_BYTES = ("relational", NOT_DONE)
"""The same for C-MOVE and C-GET: relational retrieval, and the Query/Retrieve View."""

_FIND = frozenset(model.find_uid for model in MODELS.values())


def answer(sop_class_uid: str, proposed: bytes) -> bytes:
    """Answer the proposed bytes, as far as they are defined: 1 for what is proposed and supported, else 0."""
    return bytes(byte == 1 and name != NOT_DONE for name, byte in zip(_bytes_of(sop_class_uid), proposed, strict=False))


def negotiated(sop_class_uid: str, answered: bytes) -> Negotiated:
    """Read the result of the negotiation from our answer."""
    settled = zip(_bytes_of(sop_class_uid), answered, strict=False)
    return Negotiated(**{name: True for name, byte in settled if name != NOT_DONE and byte == 1})


def _bytes_of(sop_class_uid: str) -> tuple[str, ...]:
    if sop_class_uid not in MODELS:
        return ()
    return FIND_BYTES if sop_class_uid in _FIND else RETRIEVE_BYTES
