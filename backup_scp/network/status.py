"""Errors become DIMSE Status values here, and nowhere else (PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5; PS3.7 Annex C)."""

from __future__ import annotations

from backup_scp.errors import (
    BackupSCPError,
    DestinationUnavailable,
    Invalid,
    MatchesUncounted,
    MoveDestinationUnknown,
    NotAuthorised,
    Unavailable,
)

SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_WITH_UNSUPPORTED_KEYS = 0xFF01
CANCEL = 0xFE00
SUB_OPERATIONS_FAILED = 0xB000
MATCHES_UNCOUNTED = 0xA701
SUB_OPERATIONS_REFUSED = 0xA702
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNISED_OPERATION = 0x0211

_STATUS: tuple[tuple[type[BackupSCPError], int], ...] = (
    (NotAuthorised, 0x0124),
    (MoveDestinationUnknown, 0xA801),
    (DestinationUnavailable, SUB_OPERATIONS_REFUSED),
    (MatchesUncounted, MATCHES_UNCOUNTED),
    (Invalid, 0xA900),
    (Unavailable, 0xA700),
)


def status_of(error: BackupSCPError) -> int:
    """Return the Status that answers a request which ended with ``error``."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), PROCESSING_FAILURE)


def is_warning(status: int) -> bool:
    """Whether a C-STORE Status means stored, with a warning (PS3.4 B.2.3)."""
    return status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116)
