"""Say in words why another computer cannot be reached, or rejects us, and what to check."""

from __future__ import annotations

import errno

from backup_scp.dimse.upper_layer.codecs import A_ASSOCIATE_RJ

_NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
_CONGESTED, _AT_ITS_LIMIT = (3, 1), (3, 2)  # source and reason of an A-ASSOCIATE-RJ, PS3.8 9.3.4
_CALLING, _CALLED = (1, 3), (1, 7)
TRANSIENT = 2  # result, PS3.8 9.3.4


def why_unreachable(error: OSError, timeout_s: float) -> tuple[str, str]:
    """Return why no connection could be opened within a time limit, and what to check."""
    if isinstance(error, ConnectionRefusedError):
        return (
            "the port is closed: connection refused",
            "is its DICOM receiver on, is that its port, and does its firewall open it?",
        )
    if isinstance(error, TimeoutError):
        return (
            f"no answer within {timeout_s:g} s",
            "is it on, is the address right, and does its firewall let this computer in?",
        )
    if error.errno in _NO_ROUTE:
        return "no route to that address", "check the address, the cable and the networks in between"
    return (error.strerror or "the connection was lost").lower(), "is that its own DICOM port?"


def why_rejected(rejection: A_ASSOCIATE_RJ, calling: str, called: str) -> tuple[str, str]:
    """Return what an A-ASSOCIATE-RJ says, and what to do (PS3.8 9.3.4)."""
    answer = rejection.to_primitive()
    fixes: dict[tuple[int | None, int | None], str] = {
        _CALLED: f"{called} is not its AE title: correct ae_title in its [[remote]], capitals included",
        _CALLING: f"it does not know us: enter AE title {calling} and this computer's address there",
        _AT_ITS_LIMIT: "it takes no more Associations now: try again later, or raise its limit there",
        _CONGESTED: "it is busy: try again later",
    }
    otherwise = "check both AE titles there, and that it lets this computer in"
    fix = fixes.get((answer.result_source, answer.diagnostic), otherwise)
    return f"{answer.result_str}: {answer.reason_str}", fix
