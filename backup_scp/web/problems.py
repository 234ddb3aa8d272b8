"""Errors as ``application/problem+json`` (RFC 9457), in words that help, and never with a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import Response

from backup_scp.errors import (
    ArchiveFull,
    BackupSCPError,
    Damaged,
    DestinationUnavailable,
    FileMissing,
    Invalid,
    InvalidSettings,
    NotAuthorised,
    Unavailable,
)
from backup_scp.watch.unforeseen import place_of

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 10


class Problem(Exception):  # noqa: N818 - as RFC 9457 calls it
    """A request that is not answered as asked.

    Parameters
    ----------
    status
        Of HTTP.
    detail
        One sentence for a person: what is wrong, and what to do.  It never has a value that names a patient.
    headers
        Further header fields of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.headers = dict(headers or {})


# The first that fits counts: a class stands before its base class.
_STATUS: tuple[tuple[type[BackupSCPError], HTTPStatus], ...] = (
    (NotAuthorised, HTTPStatus.FORBIDDEN),
    (ArchiveFull, HTTPStatus.INSUFFICIENT_STORAGE),
    (DestinationUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (FileMissing, HTTPStatus.INTERNAL_SERVER_ERROR),
    (Damaged, HTTPStatus.INTERNAL_SERVER_ERROR),
    (InvalidSettings, HTTPStatus.INTERNAL_SERVER_ERROR),
    (Invalid, HTTPStatus.BAD_REQUEST),
)


def problem_of(error: Exception) -> Problem:
    """Turn any error into what the caller is told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return Problem(error.status_code, _SENTENCES.get(error.status_code, error.detail), error.headers)
    if isinstance(error, BackupSCPError):
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.CONFLICT)
        again = {"Retry-After": str(RETRY_AFTER_S)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
        return Problem(status, str(error), again)
    log.error("A request failed: %s. This should not have happened; please report it", place_of(error))
    return Problem(500, "This should not have happened; the node's log has the place. Please report it")


_SENTENCES = {
    404: "There is nothing at this path; docs/web.md lists what there is",
    405: "This path does not take this method; the Allow header lists those that it takes",
}


def response_of(problem: Problem) -> Response:
    """Encode a problem."""
    body = {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": int(problem.status),
        "detail": problem.detail,
    }
    return Response(json.dumps(body), int(problem.status), problem.headers, MEDIA_TYPE)
