"""Patients of two clinics who are one person: compare them, link them, take a link back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from backup_scp.dicom.readable_values import readable_date, readable_name
from backup_scp.errors import InvalidSelection
from backup_scp.ports import ClinicPatient, PatientLink
from backup_scp.services.patient_links import PatientFacts, PatientLinks
from backup_scp.services.permissions import Right
from backup_scp.web.pages.linked_studies import links_of
from backup_scp.web.pages.login_pages import actor_of
from backup_scp.web.pages.page_frame import HEADERS, PageFrame, root_of
from backup_scp.web.pages.page_route import PageRoute
from backup_scp.web.problems import Problem

_LISTED = 50


class ListedLink(NamedTuple):
    """A link, and what is known of its patients now; nothing of those of a link that does not count any more."""

    link: PatientLink
    one: PatientFacts | None
    other: PatientFacts | None


def patients_page(request: Request, frame: PageFrame) -> Response:
    """List the links, and ask for the first patient."""
    return _list(request, frame)


def compare_page(request: Request, frame: PageFrame) -> Response:
    """Show what is known of a patient, and of a second one beside it."""
    return _compare(request, frame, request.query_params)


def change(request: Request, frame: PageFrame) -> Response:
    """Link two patients, or take a link back."""
    form: FormData = request.scope["form"]
    given = {name: str(value) for name, value in form.items()}
    links, what, number = _links(frame), given.get("do", ""), given.get("number", "")
    try:
        if what == "link":
            links.link(_patient(given, ""), _patient(given, "other_"), actor_of(request))
        elif what == "unlink" and number.isascii() and number.isdecimal() and len(number) < len(str(2**63)):
            links.unlink(int(number), actor_of(request))
        else:
            raise Problem(400, "Choose what to do")
    except InvalidSelection as error:
        return _list(request, frame, str(error))
    return RedirectResponse(f"{root_of(request)}/patients", 303, HEADERS)


def _list(request: Request, frame: PageFrame, error: str = "") -> Response:
    links = _links(frame)
    listed = [
        ListedLink(link, *(links.facts(end) if link.is_active else None for end in (link.one, link.other)))
        for link in links.listed(_LISTED)
    ]
    return _page(request, frame, "patients.html", 400 if error else 200, listed=listed, error=error)


def _compare(request: Request, frame: PageFrame, given: Mapping[str, str]) -> Response:
    links, one = _links(frame), _patient(given, "")
    facts = links.facts(one)
    if facts is None:
        raise Problem(404, "There is no image of this patient: compare clinic and Patient ID")
    second = _patient(given, "other_")
    other = links.facts(second) if second.patient_id else None
    return _page(
        request,
        frame,
        "patients_compare.html",
        one=facts,
        other=other,
        is_missing=bool(second.patient_id) and other is None,
        asked=second,
        linked=links.others([one]),
        candidates=links.candidates(facts, frame.sources.clinics) if other is None else [],
    )


def _page(request: Request, frame: PageFrame, template: str, status: int = 200, **values: Any) -> Response:
    words = {"readable_name": readable_name, "readable_date": readable_date}
    return frame.page(request, template, status, clinics=frame.sources.clinics, **words, **values)


def _patient(given: Mapping[str, str], which: str) -> ClinicPatient:
    return ClinicPatient(*(given.get(f"{which}{name}", "") for name in ("site", "issuer", "id")))


def _links(frame: PageFrame) -> PatientLinks:
    links = links_of(frame.sources)
    if links is None:
        raise Problem(404, "The settings of this node name one clinic: there is nobody to link")
    return links


PAGES = (
    PageRoute("/patients", "GET", Right.LINK, patients_page),
    PageRoute("/patients", "POST", Right.LINK, change),
    PageRoute("/patients/compare", "GET", Right.LINK, compare_page),
)
