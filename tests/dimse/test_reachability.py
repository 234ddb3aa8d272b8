"""Why an AE cannot be reached, or rejects us."""

from __future__ import annotations

import errno

import pytest
from pynetdicom.pdu import A_ASSOCIATE_RJ

from backup_scp.dimse.upper_layer.reachability import why_rejected, why_unreachable


@pytest.mark.parametrize(
    ("error", "reason", "fix"),
    [
        (ConnectionRefusedError(), "the port is closed: connection refused", "does its firewall open it"),
        (TimeoutError(), "no answer within 10 s", "is it on, is the address right"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route to that address", "the cable"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "no route to that address", "the cable"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "connection reset by peer", "DICOM port"),
        (OSError(), "the connection was lost", "DICOM port"),
    ],
)
def test_each_way_to_be_unreachable(error, reason, fix):
    said, to_do = why_unreachable(error, 10.0)
    assert said == reason
    assert fix in to_do


@pytest.mark.parametrize(
    ("result", "source", "diagnostic", "fix"),
    [
        (1, 1, 7, "DR1 is not its AE title"),
        (1, 1, 3, "enter AE title US and this computer's address there"),
        (2, 3, 2, "it takes no more Associations now"),
        (2, 3, 1, "it is busy"),
        (1, 1, 1, "check both AE titles there"),
    ],
)
def test_each_rejection_has_its_fix(result, source, diagnostic, fix):
    rejection = A_ASSOCIATE_RJ()
    rejection.result, rejection.source, rejection.reason_diagnostic = result, source, diagnostic
    assert fix in why_rejected(rejection, "US", "DR1")[1]
