"""Map errors to DIMSE Status values: the only place that does (PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5; PS3.7 Annex C).

``ANSWERS`` lists for each service its Status values and their conditions; the Conformance Statement is made from it.
"""

from __future__ import annotations

from typing import NamedTuple

from backup_scp.errors import (
    ArchiveFull,
    ArchiveUnavailable,
    BackupSCPError,
    DestinationUnavailable,
    DuplicateTransaction,
    IndexUnavailable,
    Invalid,
    InvalidActionInformation,
    InvalidDataSet,
    InvalidIdentifier,
    MatchesUncounted,
    MoveDestinationUnknown,
    NotAuthorised,
    Refused,
    ResourceLimitation,
    Unavailable,
)

SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_WITH_UNSUPPORTED_KEYS = 0xFF01
CANCEL = 0xFE00
SUB_OPERATIONS_FAILED = 0xB000
OUT_OF_RESOURCES = 0xA700
MATCHES_UNCOUNTED = 0xA701
SUB_OPERATIONS_REFUSED = 0xA702
MOVE_DESTINATION_UNKNOWN = 0xA801
DOES_NOT_MATCH_SOP_CLASS = 0xA900
PROCESSING_FAILURE = 0x0110
NO_SUCH_SOP_INSTANCE = 0x0112
INVALID_ARGUMENT_VALUE = 0x0115
NO_SUCH_SOP_CLASS = 0x0118
SOP_CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION_TYPE = 0x0123
NOT_AUTHORISED = 0x0124
DUPLICATE_TRANSACTION_UID = 0x0131
UNRECOGNISED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213

_STATUS: tuple[tuple[type[BackupSCPError], int], ...] = (
    (NotAuthorised, NOT_AUTHORISED),
    (MoveDestinationUnknown, MOVE_DESTINATION_UNKNOWN),
    (DuplicateTransaction, DUPLICATE_TRANSACTION_UID),
    (DestinationUnavailable, SUB_OPERATIONS_REFUSED),
    (MatchesUncounted, MATCHES_UNCOUNTED),
    (ResourceLimitation, RESOURCE_LIMITATION),
    (InvalidActionInformation, INVALID_ARGUMENT_VALUE),
    (Invalid, DOES_NOT_MATCH_SOP_CLASS),
    (Unavailable, OUT_OF_RESOURCES),
)


class StatusMeaning(NamedTuple):
    """A Status, and when a service returns it.

    Attributes
    ----------
    status, meaning
        As in PS3.4 B.2.3, C.4.1.1.4 and C.4.2.1.5, or PS3.7 Annex C.
    condition
        When a service returns it.
    comment
        The content of Error Comment (0000,0902); empty when there is none.
    """

    status: int
    meaning: str
    condition: str
    comment: str = ""


_REASON = "what is wrong; never a patient's name or ID"
_NOT_AUTHORISED = StatusMeaning(
    NOT_AUTHORISED, "Refused: Not authorized", "the caller may not query here", "the calling AE title and its address"
)
_RETRIEVE = (
    StatusMeaning(SUCCESS, "Sub-operations complete", "every sub-operation succeeded, or nothing matched"),
    StatusMeaning(PENDING, "Sub-operations are continuing", "after each sub-operation but the last"),
    StatusMeaning(
        CANCEL, "Sub-operations terminated due to Cancel indication", "C-CANCEL came before the last sub-operation"
    ),
    StatusMeaning(
        SUB_OPERATIONS_FAILED,
        "Sub-operations complete - one or more failures or warnings",
        "some sub-operations failed, or the instance was taken with a warning",
        "the first reason",
    ),
    StatusMeaning(
        MATCHES_UNCOUNTED,
        "Refused: Out of resources - unable to calculate number of matches",
        "the index does not answer",
        _REASON,
    ),
    StatusMeaning(
        SUB_OPERATIONS_REFUSED,
        "Refused: Out of resources - unable to perform sub-operations",
        "every sub-operation failed, or the Move Destination cannot be reached",
        "the first reason",
    ),
    StatusMeaning(
        DOES_NOT_MATCH_SOP_CLASS,
        "Identifier does not match SOP Class",
        "it cannot be read, has no level of the model, or no value in the Unique Key of its level",
        _REASON,
    ),
    _NOT_AUTHORISED,
)

EVERY_SERVICE = "every service"

ANSWERS: dict[str, tuple[StatusMeaning, ...]] = {
    EVERY_SERVICE: (
        StatusMeaning(PROCESSING_FAILURE, "Processing failure", "an error in the node itself", "Internal error"),
        StatusMeaning(
            SOP_CLASS_NOT_SUPPORTED,
            "Refused: SOP Class not supported",
            "the request does not belong to the SOP Class of its Presentation Context",
        ),
        StatusMeaning(UNRECOGNISED_OPERATION, "Unrecognized operation", "a Command Field that no service here answers"),
    ),
    "C-ECHO": (StatusMeaning(SUCCESS, "Success", "always"),),
    "C-STORE": (
        StatusMeaning(
            SUCCESS, "Success", "the image survives a power cut and is found, from this or an earlier C-STORE"
        ),
        StatusMeaning(
            OUT_OF_RESOURCES,
            "Refused: Out of resources",
            "archive or index cannot be written; nothing was stored: send it again",
            _REASON,
        ),
        StatusMeaning(
            DOES_NOT_MATCH_SOP_CLASS,
            "Data Set does not match SOP Class",
            "Command Set and Data Set name different instances, neither names one, or there is no Data Set",
            _REASON,
        ),
    ),
    "C-FIND": (
        StatusMeaning(SUCCESS, "Matching is complete", "after the last match, or when there is none"),
        StatusMeaning(PENDING, "Matches are continuing", "with each match, when every requested key is supported"),
        StatusMeaning(
            PENDING_WITH_UNSUPPORTED_KEYS,
            "Matches are continuing - one or more Optional Keys were not supported",
            "with each match, when a key is not in the tables of section 5.2.7, or belongs to a lower level",
        ),
        StatusMeaning(CANCEL, "Matching terminated due to Cancel request", "C-CANCEL came before the last match"),
        StatusMeaning(OUT_OF_RESOURCES, "Refused: Out of resources", "the index does not answer", _REASON),
        StatusMeaning(
            DOES_NOT_MATCH_SOP_CLASS,
            "Identifier does not match SOP Class",
            "it cannot be read, or has no level of the model; in a strict hierarchy also where a Unique Key is missing",
            _REASON,
        ),
        _NOT_AUTHORISED,
    ),
    "C-MOVE": (
        *_RETRIEVE,
        StatusMeaning(
            MOVE_DESTINATION_UNKNOWN,
            "Refused: Move Destination unknown",
            "no remote AE of this AE title is configured as a destination",
            "the AE title",
        ),
    ),
    "C-GET": _RETRIEVE,
    "N-ACTION": (
        StatusMeaning(SUCCESS, "Success", "the request is durable; its report follows"),
        StatusMeaning(
            NO_SUCH_SOP_INSTANCE, "No such SOP Instance", "another than the well-known SOP Instance", _REASON
        ),
        StatusMeaning(
            INVALID_ARGUMENT_VALUE,
            "Invalid argument value",
            "the Data Set is missing or unreadable, or lacks Transaction UID or references",
            _REASON,
        ),
        StatusMeaning(NO_SUCH_SOP_CLASS, "No such SOP Class", "another than that of the Presentation Context", _REASON),
        StatusMeaning(NO_SUCH_ACTION_TYPE, "No such Action Type", "another Action Type ID than 1", _REASON),
        StatusMeaning(
            DUPLICATE_TRANSACTION_UID,
            "Duplicate Transaction UID",
            "this AE has used the Transaction UID in the last 30 days; nothing is reported on the second request",
            _REASON,
        ),
        StatusMeaning(
            RESOURCE_LIMITATION,
            "Resource limitation",
            "the index cannot be written, or too much is open at this address; ask again later",
            _REASON,
        ),
    ),
    "N-EVENT-REPORT": (
        StatusMeaning(SUCCESS, "Success", "the report is stored"),
        StatusMeaning(
            INVALID_ARGUMENT_VALUE,
            "Invalid argument value",
            "it cannot be read, or its Transaction UID is not of a request of this node",
            _REASON,
        ),
        StatusMeaning(
            RESOURCE_LIMITATION, "Resource limitation", "the index cannot be written; report it again", _REASON
        ),
    ),
}
"""By service; every service may also return those of ``EVERY_SERVICE``."""


def status_of(error: BackupSCPError) -> int:
    """Return the Status for a request that ended with ``error``."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), PROCESSING_FAILURE)


_FIXES: tuple[tuple[type[BackupSCPError], str], ...] = (
    (ArchiveFull, "make room on the archive's disk, or move the archive to a larger one"),
    (ArchiveUnavailable, "backup-scp check says what is wrong with the archive"),
    (IndexUnavailable, "backup-scp check says what is wrong with the index"),
    (InvalidDataSet, "the sender's images contradict themselves: report this sentence to its manufacturer"),
    (InvalidIdentifier, "the viewer asks for what DICOM does not allow: choose another query model or level there"),
    (InvalidActionInformation, "report this sentence to the maker of the console"),
    (ResourceLimitation, "let it ask again later"),
)


def fix_of(error: BackupSCPError) -> str:
    """Return what a person can do about a refusal; empty when unknown."""
    if isinstance(error, Refused):
        return error.fix
    return next((fix for kind, fix in _FIXES if isinstance(error, kind)), "")


_MEANINGS = {  # PS3.7 Annex C, PS3.4 B.2.3
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "attribute list error",
    PROCESSING_FAILURE: "processing failure",
    0x0111: "duplicate SOP Instance: it says that it has the image already",
    NO_SUCH_SOP_INSTANCE: "no such SOP Instance",
    INVALID_ARGUMENT_VALUE: "invalid argument value",
    0x0117: "invalid SOP Instance",
    NO_SUCH_SOP_CLASS: "no such SOP Class",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    SOP_CLASS_NOT_SUPPORTED: "SOP Class not supported",
    NOT_AUTHORISED: "not authorized",
    0x0210: "duplicate invocation",
    UNRECOGNISED_OPERATION: "unrecognized operation",
    0x0212: "mistyped argument",
    RESOURCE_LIMITATION: "resource limitation",
}
_RANGES = (
    (0xA700, 0xA7FF, "out of resources: it has no room"),
    (0xA800, 0xA8FF, "SOP Class not supported"),
    (0xA900, 0xA9FF, "the image does not match its SOP Class"),
    (0xB000, 0xBFFF, "stored with a warning"),
    (0xC000, 0xCFFF, "it cannot understand the image"),
)


def meaning_of(status: int) -> str:
    """Return the meaning of a C-STORE Status in words; empty for one that no standard defines."""
    return _MEANINGS.get(status) or next((words for first, last, words in _RANGES if first <= status <= last), "")


def is_out_of_resources(status: int) -> bool:
    """Tell whether a C-STORE Status means that there is no room (PS3.4 B.2.3: A7xx)."""
    return status >> 8 == 0xA7


def is_warning(status: int) -> bool:
    """Tell whether a C-STORE Status means stored with a warning (PS3.4 B.2.3)."""
    return status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116)
