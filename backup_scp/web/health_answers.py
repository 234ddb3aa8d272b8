"""Answer programs that watch the node, without a login and without a word that a stranger must not read."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backup_scp.errors import BackupSCPError
from backup_scp.web.pages.backup_state import BackupState
from backup_scp.web.pages.state_feed import StateFeed
from backup_scp.web.worker_threads import in_thread

ALIVE_PATH, READY_PATH = "/healthz", "/readyz"

_METHODS = frozenset({"GET", "HEAD"})
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class HealthAnswers:
    """Answers ``/healthz`` and ``/readyz``; all else goes on to the application.

    ``/healthz`` is 200 while this process answers. ``/readyz`` is 200 while an image would be stored: the node listens,
    the archive can be written, the index answers.  Otherwise it is 503, with those that do not.  It comes from the last
    state, which is asked for again in a thread: no answer waits for a disk.

    Parameters
    ----------
    app
        The application.
    feed
        Has the state of the backup.
    """

    def __init__(self, app: ASGIApp, feed: StateFeed) -> None:
        self._app = app
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] not in {ALIVE_PATH, READY_PATH}:
            await self._app(scope, receive, send)
            return
        await (await self._answer(scope))(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        if scope["method"] not in _METHODS:
            return PlainTextResponse("GET only\n", 405, _HEADERS | {"Allow": "GET, HEAD"})
        if scope["path"] == ALIVE_PATH:
            return PlainTextResponse("ok\n", 200, _HEADERS)
        failing = await in_thread(self._failing)
        return PlainTextResponse(
            f"not ready: {', '.join(failing)}\n" if failing else "ok\n", 503 if failing else 200, _HEADERS
        )

    def _failing(self) -> list[str]:
        try:
            snapshot = self._feed.soon()
        except BackupSCPError:
            return ["archive"]
        return ["state"] if snapshot is None else not_ready(snapshot.state)


def not_ready(state: BackupState) -> list[str]:
    """Return what keeps an image from being stored, a word each."""
    hears = state.node.running and not any(one.what == "node" and one.severity == "act" for one in state.findings)
    parts = {"node": hears, "archive": not state.refusing, "index": not state.index_trouble}
    return [name for name, is_well in parts.items() if not is_well]
