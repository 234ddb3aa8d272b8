"""Send studies back by hand: pick them, choose the console, watch, read the receipt."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Condition, Query, UIDList
from backup_scp.errors import InvalidSelection
from backup_scp.machine import clock
from backup_scp.ports import RemoteAE, Selection
from backup_scp.services import restore_jobs
from backup_scp.services.permissions import Right, remote_may
from backup_scp.services.restore_jobs import RestoreJob
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.search_page import StudyRow
from backup_scp.web.pages.state_feed import pause
from backup_scp.web.pages.study_page import uids_of
from backup_scp.web.pages.study_search import SHOWN
from backup_scp.web.problems import Problem

_STUDY_UID = BY_KEYWORD["StudyInstanceUID"]
_NO_STORE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_EVERY_S = 2.0
_SILENT_S = 20.0


def restores_page(request: Request, frame: PageFrame) -> Response:
    """List the restores."""
    return frame.page(request, "restores.html", jobs=_jobs(frame))


def new_page(request: Request, frame: PageFrame) -> Response:
    """Show the form: what was picked, and the consoles to choose from."""
    uids = uids_of(request.query_params.getlist("study"))
    if len(uids) > restore_jobs.MOST_STUDIES:
        raise Problem(400, f"Pick at most {restore_jobs.MOST_STUDIES} studies at once")
    remotes = [remote for remote in frame.sources.remotes if remote_may(remote, Right.RECEIVE)]
    return frame.page(request, "restore_new.html", studies=_studies(frame, uids), remotes=remotes)


def order(request: Request, frame: PageFrame) -> Response:
    """Record an order, tell the node, and lead to its page."""
    form: FormData = request.scope["form"]
    uids, to = uids_of(str(uid) for uid in form.getlist("study")), str(form.get("to", ""))
    sources = frame.sources
    remote = next((each for each in sources.remotes if remote_may(each, Right.RECEIVE) and each.name == to), None)
    if remote is None:
        raise Problem(400, "Choose a console of the list")
    _require_allowed(frame, remote, uids)
    try:
        job = restore_jobs.order(sources.records, sources.node, to, uids, clock.now(), sources.scope)
    except InvalidSelection as error:
        raise Problem(400, str(error)) from None
    sources.order_restore()
    return RedirectResponse(f"{root_of(request)}/restore/job?place={job.place}", 303, HEADERS)


def job_page(request: Request, frame: PageFrame) -> Response:
    """Show how a restore goes, and what came of it."""
    job = _job(request, frame)
    studies = _studies(frame, job.studies)
    return frame.page(
        request,
        "restore_job.html",
        job=job,
        studies=studies,
        events=f"{root_of(request)}/restore/events?place={job.place}",
    )


async def job_events(request: Request, frame: PageFrame) -> Response:
    """Send the progress of a restore whenever it changes (server-sent events), until its end."""
    await run_in_threadpool(_job, request, frame)

    async def lines() -> AsyncIterator[str]:
        sent, sent_at = "", time.monotonic()
        while not frame.sources.is_ending.is_set():
            job = await run_in_threadpool(_job, request, frame)
            html = frame.html(request, "restore_now.html", job=job)
            if html != sent:
                sent, sent_at = html, time.monotonic()
                yield "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
            elif time.monotonic() - sent_at > _SILENT_S:
                sent_at = time.monotonic()
                yield ": alive\n\n"
            await pause(_EVERY_S, frame.sources.is_ending)

    return StreamingResponse(lines(), headers=HEADERS | _NO_STORE, media_type="text/event-stream")


def receipt(request: Request, frame: PageFrame) -> Response:
    """Send the receipt of a restore."""
    job = _job(request, frame)
    path = frame.sources.receipts / job.receipt
    if not job.receipt or path.parent != frame.sources.receipts or not path.is_file():
        raise Problem(404, "There is no receipt of this restore on this computer")
    return FileResponse(path, filename=path.name, headers=HEADERS | {"Cache-Control": "no-store"})


def _jobs(frame: PageFrame) -> list[RestoreJob]:
    return restore_jobs.jobs(frame.sources.records, frame.sources.scope)


def _require_allowed(frame: PageFrame, remote: RemoteAE, uids: Sequence[str]) -> None:
    """Refuse to send a study, or a part of one, to a console that may not have images of its clinic."""
    if remote.scope.covers(frame.sources.scope) or not uids:
        return
    index, wanted = frame.sources.stores.index, Selection((Condition(_STUDY_UID, UIDList(tuple(uids))),))
    if index.select(wanted) != index.seen_by(remote.scope).select(wanted):
        raise Problem(400, f"{remote.name} may not have images of this clinic; sites of its [[remote]] says which")


def _job(request: Request, frame: PageFrame) -> RestoreJob:
    place = request.query_params.get("place", "")
    for job in _jobs(frame):
        if job.place == place:
            return job
    raise Problem(404, "There is no such restore")


def _studies(frame: PageFrame, uids: Sequence[str]) -> list[StudyRow]:
    """Look studies up, in the order of the index."""
    if not uids:
        return []
    wanted: Any = UIDList(tuple(uids))
    query = Query(Level.STUDY, (Condition(_STUDY_UID, wanted),), SHOWN)
    with closing(frame.sources.stores.index.search(query)) as matches:
        return [StudyRow(match) for match in matches]


PAGES = (
    PageRoute("/restore", "GET", Right.RESTORE, restores_page),
    PageRoute("/restore", "POST", Right.RESTORE, order),
    PageRoute("/restore/new", "GET", Right.RESTORE, new_page),
    PageRoute("/restore/job", "GET", Right.RESTORE, job_page),
    PageRoute("/restore/events", "GET", Right.RESTORE, job_events),
    PageRoute("/restore/receipt", "GET", Right.RESTORE, receipt),
)
