"""The first page: one look says whether the backup is well, or what to do.  The same for Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from backup_scp.services.permissions import Right
from backup_scp.web.pages.calendar_drawing import drawing
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, texts_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.state_feed import StateSnapshot
from backup_scp.web.pages.work_progress import copy_work

_NO_STORE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def state_page(request: Request, frame: PageFrame) -> Response:
    """Show the state of the backup; where it takes longer than a moment, the stream brings it."""
    snapshot = frame.feed.soon()
    values = {"state": None} if snapshot is None else _values(request, snapshot)
    return frame.page(request, "state.html", **values)


def metrics(request: Request, frame: PageFrame) -> Response:
    """Show it as Prometheus reads it."""
    from backup_scp.web.pages.prometheus_text import metrics_of  # its library, which others do not need

    text, media_type = metrics_of(frame.feed.now(), frame.sources.remotes, request.headers.get("accept", ""))
    return Response(text, headers=HEADERS | _NO_STORE, media_type=media_type)


async def events(request: Request, frame: PageFrame) -> Response:
    """Send the first page's content again whenever it may have changed (server-sent events)."""

    async def lines() -> AsyncIterator[str]:
        sent = ""
        async for snapshot in frame.feed.changes():
            html = "" if snapshot is None else frame.html(request, "state_now.html", **_values(request, snapshot))
            if html and html != sent:
                sent = html
                yield "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
            else:
                yield ": alive\n\n"

    return StreamingResponse(lines(), headers=HEADERS | _NO_STORE, media_type="text/event-stream")


def _values(request: Request, snapshot: StateSnapshot) -> dict[str, Any]:
    words = texts_of(request)
    drawings = [drawing(console, words) for console in snapshot.days]
    return {
        "at": snapshot.at,
        "state": snapshot.state,
        "drawings": drawings,
        "work": snapshot.work,
        "copy_work": copy_work,
    }


PAGES = (
    PageRoute("/", "GET", Right.STATE, state_page),
    PageRoute("/events", "GET", Right.STATE, events),
    PageRoute("/metrics", "GET", Right.STATE, metrics),
)
