"""What else is known of the patient of a study: the studies at other clinics where it is linked to a patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.requests import Request

from backup_scp.errors import AccountsUnavailable
from backup_scp.ports import ClinicPatient
from backup_scp.services.patient_links import LinkedPatient, PatientLinks
from backup_scp.services.permissions import Right
from backup_scp.web.pages.login_pages import caller_of
from backup_scp.web.pages.page_sources import PageSources
from backup_scp.web.pages.search_page import StudyRow
from backup_scp.web.pages.study_search import SHOWN

_MOST_STUDIES = 50  # of one patient
_AT_LEAST = 2  # who sees one clinic alone is never told of links


@dataclass(frozen=True, slots=True)
class LinkedStudies:
    """The part of a study's page on other clinics.

    Attributes
    ----------
    others
        Each linked patient with its studies, the newest first.
    to_link
        Patients of this study whom the caller may link.
    is_unknown
        Whether the links could not be read.
    """

    others: list[tuple[LinkedPatient, list[StudyRow]]] = field(default_factory=list)
    to_link: list[ClinicPatient] = field(default_factory=list)
    is_unknown: bool = False


def links_of(sources: PageSources) -> PatientLinks | None:
    """Return the links between the clinics of a caller; None where there are none."""
    if sources.logins is None or len(sources.clinics) < _AT_LEAST:
        return None
    return PatientLinks(sources.logins.accounts, sources.stores.index.seen_by, sources.scope)


def linked_studies(request: Request, sources: PageSources, patients: Iterable[ClinicPatient]) -> LinkedStudies:
    """Return what other clinics have of these patients.

    Raises
    ------
    IndexUnavailable
    """
    links = links_of(sources)
    known = [patient for patient in patients if patient.patient_id]
    if links is None or not known:
        return LinkedStudies()
    caller = caller_of(request)
    seen = caller.scope_for(Right.LINK)
    to_link = [patient for patient in known if caller.may(Right.LINK) and seen.holds(patient.site)]
    try:
        others = links.others(known)
    except AccountsUnavailable:
        return LinkedStudies(is_unknown=True)
    rows = [(one, list(map(StudyRow, links.studies(one.patient, SHOWN, _MOST_STUDIES)))) for one in others]
    return LinkedStudies(rows, to_link)
