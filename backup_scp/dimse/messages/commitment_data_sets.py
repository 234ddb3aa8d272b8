"""Read and write the Data Sets of Storage Commitment: requests and reports (PS3.4 Tables J.3-1 and J.3-2)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from functools import lru_cache

from pydicom.uid import ExplicitVRBigEndian

from backup_scp.dicom import data_set
from backup_scp.dicom.character_set import DEFAULT
from backup_scp.dicom.value_representation import to_text
from backup_scp.dimse.messages.response_identifier import RETRIEVE_AE_TITLE, element_writer
from backup_scp.errors import InvalidActionInformation, InvalidDataSet
from backup_scp.ports import Commitment, FailureReason, Reference

MOST_REFERENCES = 10_000
"""Limit of references in one request."""

TRANSACTION_UID = 0x00081195
FAILED_SOP_SEQUENCE = 0x00081198
REFERENCED_SOP_SEQUENCE = 0x00081199
REFERENCED_SOP_CLASS_UID = 0x00081150
REFERENCED_SOP_INSTANCE_UID = 0x00081155
FAILURE_REASON = 0x00081197

ALL_COMMITTED, FAILURES_EXIST = 1, 2  # Event Type ID, PS3.4 J.3.3.1.1
_LONGEST_UID = 128  # twice the limit of PS3.5 6.2: invalid UIDs are accepted, but not of any length


def read_action_information(encoded: bytes, transfer_syntax: str) -> tuple[str, tuple[Reference, ...]]:
    """Read a request: its Transaction UID and the references, in order.

    Raises
    ------
    InvalidActionInformation
        The request cannot be read, lacks one of the two, or has too many references.
    """
    try:
        elements = _elements(encoded, transfer_syntax, (TRANSACTION_UID, REFERENCED_SOP_SEQUENCE))
        transaction_uid = _uid(elements, TRANSACTION_UID, "Transaction UID (0008,1195)")
        sequence = elements.get(REFERENCED_SOP_SEQUENCE, ("SQ", b""))[1]
        references = tuple(map(_reference, _bounded(sequence)))
    except InvalidDataSet as error:
        raise InvalidActionInformation(f"The request cannot be read: {error}") from None
    if not references:
        raise InvalidActionInformation("The Referenced SOP Sequence (0008,1199) is empty")
    return transaction_uid, references


def read_event_information(encoded: bytes, transfer_syntax: str) -> tuple[str, dict[Reference, int]]:
    """Read a report: its Transaction UID, and the Failure Reason of each reference, 0 when it is committed.

    A reference in both sequences is not committed.

    Raises
    ------
    InvalidActionInformation
        The report cannot be read, or lacks the Transaction UID.
    """
    sequences = (REFERENCED_SOP_SEQUENCE, FAILED_SOP_SEQUENCE)
    results: dict[Reference, int] = {}
    try:
        elements = _elements(encoded, transfer_syntax, (TRANSACTION_UID, *sequences))
        transaction_uid = _uid(elements, TRANSACTION_UID, "Transaction UID (0008,1195)")
        for tag in sequences:
            for item in _bounded(elements.get(tag, ("SQ", b""))[1]):
                reason = item.get(FAILURE_REASON, ("US", b""))[1]
                failed = int.from_bytes(reason, "little") or FailureReason.PROCESSING_FAILURE
                results[_reference(item)] = failed if tag == FAILED_SOP_SEQUENCE else 0
    except InvalidDataSet as error:
        raise InvalidActionInformation(f"The report cannot be read: {error}") from None
    return transaction_uid, results


def _elements(encoded: bytes, transfer_syntax: str, wanted: Collection[int]) -> data_set.Elements:
    """Read the elements of a Data Set like those of an item, for which the length of sequences is not limited."""
    order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
    return next(data_set.items(struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(encoded)) + encoded, wanted))


def _bounded(sequence: bytes) -> Iterable[data_set.Elements]:
    wanted = (REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID, FAILURE_REASON)
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
    """Return the Event Type ID of a report."""
    return FAILURES_EXIST if any(commitment.results) else ALL_COMMITTED


def event_information(commitment: Commitment, ae_title: str, transfer_syntax: str) -> bytes:
    """Encode a report, with each reference of the request in one of the two sequences.

    Parameters
    ----------
    ae_title
        Our AE title, from which the instances can be retrieved.
    """
    request = commitment.request
    results = list(zip(request.references, commitment.results, strict=True))
    writer = _ItemWriter(transfer_syntax)
    return b"".join(
        (
            writer.element(RETRIEVE_AE_TITLE, "AE", ae_title.encode("ascii")),
            writer.element(TRANSACTION_UID, "UI", request.transaction_uid.encode("latin-1")),
            writer.sequence(FAILED_SOP_SEQUENCE, (result for result in results if result[1] is not None)),
            writer.sequence(REFERENCED_SOP_SEQUENCE, (result for result in results if result[1] is None)),
        )
    )


def action_information(transaction_uid: str, references: Iterable[Reference], transfer_syntax: str) -> bytes:
    """Encode a request of our own."""
    writer = _ItemWriter(transfer_syntax)
    sequence = writer.sequence(REFERENCED_SOP_SEQUENCE, ((reference, None) for reference in references))
    return writer.element(TRANSACTION_UID, "UI", transaction_uid.encode("ascii")) + sequence


class _ItemWriter:
    """Writes elements and sequences of references in a native Transfer Syntax."""

    def __init__(self, transfer_syntax: str) -> None:
        self._order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
        self._write = lru_cache(None)(lambda tag, vr: element_writer(tag, vr, transfer_syntax))

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        return self._write(tag, vr)(value)

    def sequence(self, tag: int, results: Iterable[tuple[Reference, FailureReason | None]]) -> bytes:
        """Encode a sequence; nothing when it would be empty."""
        items = b"".join(self._item(*result) for result in results)
        return self.element(tag, "SQ", items) if items else b""

    def _item(self, reference: Reference, reason: FailureReason | None) -> bytes:
        elements = self.element(REFERENCED_SOP_CLASS_UID, "UI", reference.sop_class_uid.encode("latin-1"))
        elements += self.element(REFERENCED_SOP_INSTANCE_UID, "UI", reference.sop_instance_uid.encode("latin-1"))
        if reason is not None:
            elements += self.element(FAILURE_REASON, "US", struct.pack(f"{self._order}H", reason))
        return struct.pack(f"{self._order}HHI", 0xFFFE, 0xE000, len(elements)) + elements
