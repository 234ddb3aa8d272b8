"""The Data Sets of Storage Commitment: Action Information in, Event Information out (PS3.4 Tables J.3-1 and J.3-2)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pydicom.uid import ExplicitVRBigEndian

from backup_scp import data_set
from backup_scp.character_set import DEFAULT
from backup_scp.errors import InvalidActionInformation, InvalidDataSet
from backup_scp.network.identifier import RETRIEVE_AE_TITLE, element_writer
from backup_scp.ports import Commitment, FailureReason, Reference
from backup_scp.value_representation import to_text

INFORMATION_BYTES = 8 << 20
MOST_REFERENCES = 100_000
"""What one request may have; some 60,000 references with UIDs as they are usual fit into the bytes."""

TRANSACTION_UID = 0x00081195
FAILED_SOP_SEQUENCE = 0x00081198
REFERENCED_SOP_SEQUENCE = 0x00081199
REFERENCED_SOP_CLASS_UID = 0x00081150
REFERENCED_SOP_INSTANCE_UID = 0x00081155
FAILURE_REASON = 0x00081197

ALL_COMMITTED, FAILURES_EXIST = 1, 2  # Event Type ID, PS3.4 J.3.3.1.1
_LONGEST_UID = 128  # twice what PS3.5 6.2 allows: identity never blocks, but no book fits in


def read_action_information(encoded: bytes, transfer_syntax: str) -> tuple[str, tuple[Reference, ...]]:
    """Read a request: its Transaction UID and the references, in order.

    Raises
    ------
    InvalidActionInformation
        It cannot be read, lacks one of the two, or has more references than can be taken at once.
    """
    order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
    as_item = struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(encoded)) + encoded
    try:
        elements = next(data_set.items(as_item, (TRANSACTION_UID, REFERENCED_SOP_SEQUENCE)))
        transaction_uid = _uid(elements, TRANSACTION_UID, "Transaction UID (0008,1195)")
        sequence = elements.get(REFERENCED_SOP_SEQUENCE, ("SQ", b""))[1]
        references = tuple(map(_reference, _bounded(sequence)))
    except InvalidDataSet as error:
        raise InvalidActionInformation(f"The request cannot be read: {error}") from None
    if not references:
        raise InvalidActionInformation("The Referenced SOP Sequence (0008,1199) is empty")
    return transaction_uid, references


def _bounded(sequence: bytes) -> Iterable[data_set.Elements]:
    wanted = (REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID)
    for number, item in enumerate(data_set.items(sequence, wanted), 1):
        if number > MOST_REFERENCES:
            raise InvalidActionInformation(f"A request may have {MOST_REFERENCES} references")
        yield item


def _reference(item: data_set.Elements) -> Reference:
    return Reference(
        _uid(item, REFERENCED_SOP_CLASS_UID, "Referenced SOP Class UID (0008,1150)"),
        _uid(item, REFERENCED_SOP_INSTANCE_UID, "Referenced SOP Instance UID (0008,1155)"),
    )


def _uid(elements: data_set.Elements, tag: int, what: str) -> str:
    uid = to_text("UI", "UI", elements.get(tag, ("UI", b""))[1], DEFAULT)
    if not uid:
        raise InvalidActionInformation(f"{what} is missing")
    if len(uid) > _LONGEST_UID:
        raise InvalidActionInformation(f"{what} has {len(uid)} characters")
    return uid


def event_type(commitment: Commitment) -> int:
    """Give the Event Type ID of a report."""
    return FAILURES_EXIST if any(commitment.results) else ALL_COMMITTED


def event_information(commitment: Commitment, ae_title: str, transfer_syntax: str) -> bytes:
    """Write a report: each reference of the request stands in one of the two sequences.

    Parameters
    ----------
    ae_title
        Our own, from which the instances can be retrieved.
    """
    writers = {
        tag: element_writer(tag, vr, transfer_syntax)
        for tag, vr in (
            (RETRIEVE_AE_TITLE, "AE"),
            (REFERENCED_SOP_CLASS_UID, "UI"),
            (REFERENCED_SOP_INSTANCE_UID, "UI"),
            (TRANSACTION_UID, "UI"),
            (FAILURE_REASON, "US"),
            (FAILED_SOP_SEQUENCE, "SQ"),
            (REFERENCED_SOP_SEQUENCE, "SQ"),
        )
    }
    order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
    sequences: dict[int, list[bytes]] = {FAILED_SOP_SEQUENCE: [], REFERENCED_SOP_SEQUENCE: []}

    def item(reference: Reference, reason: FailureReason | None) -> bytes:
        elements = writers[REFERENCED_SOP_CLASS_UID](reference.sop_class_uid.encode("latin-1"))
        elements += writers[REFERENCED_SOP_INSTANCE_UID](reference.sop_instance_uid.encode("latin-1"))
        if reason is not None:
            elements += writers[FAILURE_REASON](struct.pack(f"{order}H", reason))
        return struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(elements)) + elements

    request = commitment.request
    for reference, reason in zip(request.references, commitment.results, strict=True):
        sequences[REFERENCED_SOP_SEQUENCE if reason is None else FAILED_SOP_SEQUENCE].append(item(reference, reason))
    out = writers[RETRIEVE_AE_TITLE](ae_title.encode("ascii"))
    out += writers[TRANSACTION_UID](request.transaction_uid.encode("latin-1"))
    return out + b"".join(writers[tag](b"".join(items)) for tag, items in sequences.items() if items)
