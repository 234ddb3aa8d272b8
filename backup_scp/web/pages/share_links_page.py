"""Share a study by a link: make it, list links, revoke and unlock them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.information_model import Condition, Query, SingleValue
from backup_scp.errors import InvalidSelection
from backup_scp.machine import clock
from backup_scp.ports import SiteScope, StudyReader
from backup_scp.services.logins import TooManyAttempts
from backup_scp.services.permissions import Right
from backup_scp.services.share_links import MOST_DAYS, MOST_FAILURES, NewShare, ShareLinks
from backup_scp.services.user_changes import Actor
from backup_scp.web.options import SHARE_PATH
from backup_scp.web.pages.login_pages import actor_of
from backup_scp.web.pages.page_frame import PageFrame
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.page_texts import FOR_PATIENTS, languages, texts_in
from backup_scp.web.pages.qr_drawing import qr_drawing
from backup_scp.web.pages.search_page import StudyRow
from backup_scp.web.pages.study_search import SHOWN
from backup_scp.web.problems import Problem

_DAYS = 30
_ON_A_PAGE = 50


def share_links_page(request: Request, frame: PageFrame) -> Response:
    """List the links of the caller's clinics, the newest first."""
    before = request.query_params.get("before", "")
    return _list(request, frame, before=int(before) if before.isdecimal() and before.isascii() else 0)


def new_link_page(request: Request, frame: PageFrame) -> Response:
    """Show the form for a link to a study, and its links so far."""
    return _form(request, frame, request.query_params.get("study", ""))


def change(request: Request, frame: PageFrame) -> Response:
    """Make, revoke or unlock a link."""
    form: FormData = request.scope["form"]
    shares, by, what = _shares(frame), actor_of(request), str(form.get("do", ""))
    if what == "make":
        return _make(request, frame, form, by)
    number = str(form.get("link", ""))
    if what not in {"revoke", "unlock"} or not (number.isdecimal() and number.isascii() and len(number) < 19):
        raise Problem(400, "Choose what to do")
    try:
        done = (shares.revoke if what == "revoke" else shares.unlock)(int(number), frame.sources.scope, by)
    except InvalidSelection as error:
        raise Problem(404, str(error)) from None
    return _list(request, frame, done=f"share.{what}_done", made_for=done.made_for)


def _make(request: Request, frame: PageFrame, form: FormData, by: Actor) -> Response:
    uid, days, language = (str(form.get(name, "")) for name in ("study", "days", "language"))
    sources, shares = frame.sources, _shares(frame)
    sites = _sites(sources.stores.index, uid)
    if not sources.share_address:
        return _form(request, frame, uid)
    try:
        site = sites[int(str(form.get("part", "0")))]
    except (ValueError, IndexError):
        raise Problem(400, "Choose which part of the study to share") from None
    try:
        number = int(days) if days.isdecimal() and days.isascii() and len(days) < 6 else 0
        may_save = form.get("save") == "yes"
        made = shares.make(uid, site, str(form.get("for", "")), number, by, may_save=may_save)
    except (InvalidSelection, TooManyAttempts) as error:
        return _form(request, frame, uid, error=str(error), given=form)
    return _made(request, frame, made, language)


def _made(request: Request, frame: PageFrame, made: NewShare, language: str) -> Response:
    """Show link and PIN, this once; beside them what to print for the patient."""
    address = f"{frame.sources.share_address}{SHARE_PATH}{made.token}"
    known = language if language in languages(FOR_PATIENTS) else "en"
    return frame.page(
        request,
        "share_made.html",
        link=made.link,
        address=address,
        pin=f"{made.pin[:3]} {made.pin[3:]}",
        drawing=qr_drawing(address),
        slip=texts_in(known, FOR_PATIENTS),
    )


def _form(request: Request, frame: PageFrame, uid: str, *, error: str = "", given: FormData | None = None) -> Response:
    index = frame.sources.stores.index
    parts = [(site, _facts(index, uid, site)) for site in _sites(index, uid)]
    return frame.page(
        request,
        "share_new.html",
        400 if error else 200,
        uid=uid,
        parts=parts,
        address=frame.sources.share_address,
        given={"for": "", "days": str(_DAYS), "save": "" if given else "yes", "language": "en"} | dict(given or {}),
        most_days=MOST_DAYS,
        languages=[texts_in(name, FOR_PATIENTS) for name in languages(FOR_PATIENTS)],
        error=error,
        **_links(frame, study=uid),
    )


def _list(request: Request, frame: PageFrame, *, before: int = 0, done: str = "", made_for: str = "") -> Response:
    return frame.page(request, "share_links.html", done=done, made_for=made_for, **_links(frame, before=before))


def _links(frame: PageFrame, *, before: int = 0, study: str = "") -> dict[str, Any]:
    found = _shares(frame).links(frame.sources.scope, _ON_A_PAGE + 1, before, study)
    links = found[:_ON_A_PAGE]
    more = links[-1].number if len(found) > len(links) else 0
    return {"links": links, "older": more, "now": clock.now(), "most_failures": MOST_FAILURES}


def _sites(index: StudyReader, uid: str) -> list[str]:
    """Return the clinics that have a part of a study.

    Raises
    ------
    Problem
        404: there is no such study.
    """
    found = set()
    if uid and "\\" not in uid:
        wanted = Query(Level.IMAGE, _study(uid), (BY_KEYWORD["SOPInstanceUID"],))
        with closing(index.search_versions(wanted)) as versions:
            found = {version.arrival.site for version in versions if version.answering}
    if not found:
        raise Problem(404, "There is no such study")
    return sorted(found)


def _facts(index: StudyReader, uid: str, site: str) -> StudyRow:
    seen = index.seen_by(SiteScope(frozenset({site})))
    with closing(seen.search(Query(Level.STUDY, _study(uid), SHOWN))) as matches:
        return StudyRow(next(matches))


def _study(uid: str) -> tuple[Condition, ...]:
    return (Condition(BY_KEYWORD["StudyInstanceUID"], SingleValue(uid)),)


def _shares(frame: PageFrame) -> ShareLinks:
    if frame.sources.shares is None:
        raise Problem(404, "This node has no share links")
    return frame.sources.shares


PAGES = (
    PageRoute("/shares", "GET", Right.SHARE, share_links_page),
    PageRoute("/shares", "POST", Right.SHARE, change),
    PageRoute("/shares/new", "GET", Right.SHARE, new_link_page),
)
