"""Say that patients of two clinics are one person, and take it back; nothing is rewritten (docs/adr/0068)."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from backup_scp.dicom.attributes import BY_KEYWORD, Attribute, Level
from backup_scp.dicom.query.information_model import Condition, Query, SingleValue
from backup_scp.errors import InvalidSelection
from backup_scp.machine import clock
from backup_scp.ports import (
    Accounts,
    AuditEvent,
    AuditKind,
    ClinicPatient,
    Match,
    PatientLink,
    SeenBy,
    SiteScope,
    StudyReader,
)
from backup_scp.services.user_changes import Actor

_MOST_LINKED = 50  # patients of one person
_MOST_CANDIDATES = 10
_LONGEST = 256  # characters
_FACTS = tuple(
    BY_KEYWORD[keyword]
    for keyword in ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
                    "NumberOfPatientRelatedStudies")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """What the index knows of a patient.

    Attributes
    ----------
    patient
        Who.
    name, born, sex
        As in the latest study.
    studies
        How many studies there are.
    """

    patient: ClinicPatient
    name: str
    born: str
    sex: str
    studies: int

    def looks_like(self, other: PatientFacts) -> bool:
        """Tell whether name and birth date are the same, and known."""
        return bool(self.name and self.born) and (self.name, self.born) == (other.name, other.born)


class LinkedPatient(NamedTuple):
    """A patient who is the same person as another one, and the link that says so."""

    patient: ClinicPatient
    link: PatientLink


class PatientLinks:
    """Links of patients, within the clinics that somebody sees: no other link can be seen, followed or taken back.

    Parameters
    ----------
    accounts
        Has the links and the audit.
    seen_by
        Gives a reader of the index.
    scope
        The clinics.
    """

    def __init__(self, accounts: Accounts, seen_by: SeenBy, scope: SiteScope) -> None:
        self._accounts = accounts
        self._seen_by = seen_by
        self._scope = scope

    def listed(self, most: int) -> list[PatientLink]:
        """Return the links, the newest first, also those that were taken back.

        Raises
        ------
        AccountsUnavailable
        """
        return self._accounts.patient_links(self._scope, most)

    def others(self, patients: Iterable[ClinicPatient]) -> list[LinkedPatient]:
        """Return who else is the same person as these, also by way of a third one whose clinic may be seen.

        Raises
        ------
        AccountsUnavailable
        """
        waiting = deque(dict.fromkeys(patients))
        known, found = set(waiting), list[LinkedPatient]()
        while waiting and len(found) < _MOST_LINKED:
            patient = waiting.popleft()
            for link in self._accounts.links_of(patient, self._scope):
                other = link.other_than(patient)
                if other not in known:
                    known.add(other)
                    waiting.append(other)
                    found.append(LinkedPatient(other, link))
        return found

    def facts(self, patient: ClinicPatient) -> PatientFacts | None:
        """Return what is known of a patient; None when there is no image of it.

        Raises
        ------
        IndexUnavailable
        """
        return next(self._known(patient.site, {"PatientID": patient.patient_id}, patient), None)

    def studies(self, patient: ClinicPatient, shown: tuple[Attribute, ...], most: int) -> list[Match]:
        """Return the studies of a patient, the newest first.

        Raises
        ------
        IndexUnavailable
        """
        wanted = (Condition(BY_KEYWORD["PatientID"], SingleValue(patient.patient_id)),)
        keys = (*shown, BY_KEYWORD["IssuerOfPatientID"])
        with closing(self._reader(patient.site).search(Query(Level.STUDY, wanted, keys))) as matches:
            own = (match for match in matches if _is_of(match, patient))
            return list(itertools.islice(own, most))

    def candidates(self, facts: PatientFacts, sites: Iterable[str]) -> list[PatientFacts]:
        """Return patients of other clinics with exactly this name and birth date, who are not linked yet.

        Raises
        ------
        IndexUnavailable, AccountsUnavailable
        """
        if not (facts.name and facts.born):
            return []
        linked = {each.patient for each in self.others([facts.patient])}
        asked = {"PatientName": facts.name, "PatientBirthDate": facts.born}
        each_site = (self._known(site, asked) for site in sites if site != facts.patient.site)
        alike = (one for one in itertools.chain.from_iterable(each_site) if one.looks_like(facts))
        new = (one for one in alike if one.patient.patient_id and one.patient not in linked)
        return list(itertools.islice(new, _MOST_CANDIDATES))

    def link(self, one: ClinicPatient, other: ClinicPatient, by: Actor) -> PatientLink:
        """Say that two patients are one person.

        Raises
        ------
        InvalidSelection
            They are of one clinic, linked already, or one of them has no images that may be seen.
        IndexUnavailable, AccountsUnavailable
        """
        if one.site == other.site:
            raise InvalidSelection("Choose patients of two clinics")
        for patient in (one, other):
            if not _is_usable(patient) or self.facts(patient) is None:
                raise InvalidSelection("There is no image of one of the two patients: compare clinic and Patient ID")
        if other in {linked.patient for linked in self.others([one])}:
            raise InvalidSelection("These patients are linked already")
        link = self._accounts.link_patients(one, other, clock.now(), by.who)
        self._record(AuditKind.PATIENTS_LINKED, link, by)
        return link

    def unlink(self, number: int, by: Actor) -> PatientLink:
        """Take a link back.

        Raises
        ------
        InvalidSelection
            There is none with this number that counts and may be seen.
        AccountsUnavailable
        """
        link = self._accounts.patient_link(number)
        seen = link is not None and link.within(self._scope)
        if link is None or not seen or not self._accounts.unlink_patients(number, clock.now(), by.who):
            raise InvalidSelection("There is no link with this number that counts")
        self._record(AuditKind.PATIENTS_UNLINKED, link, by)
        return link

    def _record(self, kind: AuditKind, link: PatientLink, by: Actor) -> None:
        self._accounts.record(AuditEvent(clock.now(), kind, by.who, f"link {link.number}", by.address))

    def _reader(self, site: str) -> StudyReader:
        return self._seen_by(SiteScope(frozenset({site})) & self._scope)

    def _known(self, site: str, asked: dict[str, str], only: ClinicPatient | None = None) -> Iterator[PatientFacts]:
        wanted = tuple(Condition(BY_KEYWORD[keyword], SingleValue(value)) for keyword, value in asked.items())
        with closing(self._reader(site).search(Query(Level.PATIENT, wanted, _FACTS))) as matches:
            for match in matches:
                if only is None or _is_of(match, only):
                    patient = ClinicPatient(site, match["IssuerOfPatientID"], match["PatientID"])
                    studies = int(match["NumberOfPatientRelatedStudies"] or 0)
                    facts = (match["PatientName"], match["PatientBirthDate"], match["PatientSex"])
                    yield PatientFacts(patient, *facts, studies)


def _is_of(match: Match, patient: ClinicPatient) -> bool:
    """Tell whether an answer is of this patient: exactly this ID, of this issuer."""
    return (match["PatientID"], match["IssuerOfPatientID"]) == (patient.patient_id, patient.issuer)


def _is_usable(patient: ClinicPatient) -> bool:
    texts = (patient.site, patient.issuer, patient.patient_id)
    return bool(patient.patient_id) and all(text.isprintable() and len(text) <= _LONGEST for text in texts)
