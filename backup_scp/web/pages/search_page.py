"""Search: studies by name, ID, birth date, accession, date and modality, as one types."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backup_scp.dicom.readable_values import readable_date, readable_name
from backup_scp.machine import clock
from backup_scp.ports import Match
from backup_scp.services.permissions import Right
from backup_scp.web.forwarding import Forwarding
from backup_scp.web.pages import study_search
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.pages.study_search import StudySearch

_SEEN = "backup-scp-seen"
_YEAR_S = 365 * 24 * 60 * 60
_TIMES = ("today", "week", "unread")


def search_page(request: Request, frame: PageFrame) -> Response:
    """Show the form and one page of studies; with ``part=list`` the studies alone."""
    given = dict(request.query_params)
    when = given.get("when", "") if given.get("when") in _TIMES else ""
    seen_at = _seen_at(request)
    search = StudySearch.of(given, seen_at, clock.now())
    found = study_search.found(frame.sources.stores.index, search)
    values: dict[str, Any] = {
        "search": search,
        "when": when,
        "seen_at": seen_at,
        "now": clock.now().isoformat(timespec="seconds"),
        "studies": [StudyRow(match) for match in found.studies],
        "modalities": sorted(study_search.MODALITIES),
        "next": _address(given, search.page + 1) if found.has_more and search.page < study_search.MOST_PAGES else "",
        "previous": _address(given, search.page - 1) if search.page > 1 else "",
        "everywhere": _address(given | {"years": "all"}, 1) if found.is_cut else "",
        "is_cut": found.has_more and search.page == study_search.MOST_PAGES,
    }
    if given.get("part") == "list":
        return frame.page(request, "study_list.html", **values)
    return frame.page(request, "search.html", **values)


def mark_seen(request: Request, _frame: PageFrame) -> Response:
    """Note in the browser that all studies were seen that had come when the list was made."""
    studies = f"{root_of(request)}/studies"
    response = RedirectResponse(f"{studies}?when=unread", 303, HEADERS)
    forwarding: Forwarding = request.scope["forwarding"]
    is_secure = forwarding.base(request.scope, request.headers).startswith("https:")
    form: FormData = request.scope["form"]
    seen_at = min(_moment(str(form.get("at", ""))) or clock.now(), clock.now()).isoformat(timespec="seconds")
    response.set_cookie(_SEEN, seen_at, _YEAR_S, path=studies, secure=is_secure, httponly=True, samesite="strict")
    return response


def _seen_at(request: Request) -> datetime | None:
    return _moment(request.cookies.get(_SEEN, ""))


def _moment(text: str) -> datetime | None:
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else None
    return None


def _address(given: dict[str, str], page: int) -> str:
    kept = {name: text for name, text in given.items() if name in {"q", "when", "years", *study_search.FIELDS} and text}
    return "/studies?" + urlencode(kept | {"page": str(page)})


class StudyRow:
    """A study as people read it.

    Parameters
    ----------
    match
        The answer of the index.
    """

    def __init__(self, match: Match) -> None:
        self._match = match

    @property
    def uid(self) -> str:
        """Its Study Instance UID."""
        return self._match["StudyInstanceUID"]

    @property
    def name(self) -> str:
        """The patient's name."""
        return readable_name(self._match["PatientName"])

    @property
    def born(self) -> str:
        """The birth date."""
        return readable_date(self._match["PatientBirthDate"])

    @property
    def made(self) -> str:
        """Date and time of the study."""
        time = self._match["StudyTime"].replace(":", "")
        clock_time = f" {time[:2]}:{time[2:4]}" if time[:4].isdecimal() and len(time) >= 4 else ""
        return readable_date(self._match["StudyDate"]) + clock_time

    @property
    def modalities(self) -> str:
        """Its modalities."""
        return self._match["ModalitiesInStudy"].replace("\\", ", ")

    @property
    def images(self) -> int:
        """How many images it has."""
        number = self._match["NumberOfStudyRelatedInstances"]
        return int(number) if number.isdecimal() else 0

    def __getitem__(self, keyword: str) -> str:
        return self._match[keyword]


PAGES = (
    PageRoute("/studies", "GET", Right.FIND, search_page),
    PageRoute("/studies/seen", "POST", Right.FIND, mark_seen),
)
