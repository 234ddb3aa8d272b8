"""Report requests of the web to the audit trail: searches, images that were shown or stored, and who was refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backup_scp.dicom.uids import is_like_uid
from backup_scp.machine.recent import Recent
from backup_scp.ports import AuditedQuery, AuditedStudy, new_correlation_id
from backup_scp.services.audit_reporter import AuditReporter, Party
from backup_scp.services.permissions import CallerKind
from backup_scp.web.callers import WebCaller
from backup_scp.web.options import BASE_PATH

STORED = "stored images"
"""Where the handler that stores puts what became of each image, in the scope of a request."""

_TOLD_FOR_S = 900.0  # a viewer asks a thousand times for one study; an entry says that it was opened
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_SEARCHES = frozenset(("studies", "series", "instances"))
_MOST_REMEMBERED = 5_000


class RequestAudit:
    """Reports requests; those of a share link are in the audit of users.

    Parameters
    ----------
    app
        Answers them.
    reporter
        Records the entries.
    """

    def __init__(self, app: ASGIApp, reporter: AuditReporter) -> None:
        self._app = app
        self._reporter = reporter
        self._told: Recent[float] = Recent(_MOST_REMEMBERED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and report it."""
        if not self._reporter.is_on:
            await self._app(scope, receive, send)
            return
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            self._report(scope, status)

    def _report(self, scope: Scope, status: int) -> None:
        caller: WebCaller = scope["caller"]
        who = Party(caller.logged_in.user.name if caller.logged_in else str(caller.kind), caller.address)
        if status in _REFUSED:
            if caller.kind is not CallerKind.SHARE_LINK and self._is_new(who, "refused"):
                self._reporter.request_refused(who, new_correlation_id(), f"HTTP {scope['method']}: {status}")
            return
        if STORED in scope:
            self._report_stored(who, *scope[STORED])
        if scope["method"] == "GET" and HTTPStatus.OK <= status < HTTPStatus.BAD_REQUEST:
            self._report_read(who, scope)

    def _report_read(self, who: Party, scope: Scope) -> None:
        path, asked = scope["path"], scope["query_string"]
        parts = path.removeprefix(BASE_PATH).strip("/").split("/")
        is_dicomweb = path.startswith(BASE_PATH)
        if (is_dicomweb and parts[-1] in _SEARCHES) or (path == "/studies" and asked):
            self._reporter.queried(who, AuditedQuery(path, asked))
            return
        study = parts[1] if is_dicomweb and parts[0] == "studies" and len(parts) > 1 else ""
        if path in ("/study", f"{BASE_PATH}/wado"):
            named = parse_qs(asked.decode("latin-1"))
            study = next(iter(named.get("uid", named.get("studyUID", []))), "")
        if is_like_uid(study) and self._is_new(who, study):
            self._reporter.accessed(who, study)

    def _report_stored(self, who: Party, stored: Iterable[tuple[str, str]], refused: int, first_reason: str) -> None:
        request, studies = new_correlation_id(), dict[str, Counter[str]]()
        for study, sop_class in stored:
            studies.setdefault(study, Counter())[sop_class] += 1
        for study, instances in studies.items():
            self._reporter.received(who, AuditedStudy(study, instances), None, request)
        if refused:
            self._reporter.not_received(who, request, first_reason, refused)

    def _is_new(self, who: Party, what: str) -> bool:
        """Tell whether this is to be reported: once a quarter of an hour for a caller and a study."""
        now, key = time.monotonic(), (who, what)
        if now - (self._told.get(key) or -_TOLD_FOR_S) < _TOLD_FOR_S:
            return False
        self._told.keep(key, now)
        return True
