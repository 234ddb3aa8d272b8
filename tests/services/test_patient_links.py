"""Links between patients of two clinics, on a real index and a real database of users."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.errors import InvalidSelection
from backup_scp.ports import SEES_ALL, AuditKind, ClinicPatient, SiteScope
from backup_scp.services.patient_links import PatientLinks
from backup_scp.services.user_changes import Actor
from backup_scp.web.pages.study_search import SHOWN
from tests.samples import dx, encode
from tests.stored import stored_in

NORTH, SOUTH, EAST = (ClinicPatient(site, "", f"P-{site}") for site in ("north", "south", "east"))
BY = Actor("maria", "192.0.2.9")
BORN = {"PatientName": "GARCIA^ANA", "PatientBirthDate": "19700131"}


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored


@pytest.fixture
def accounts(tmp_path):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def put(stored):
    """Store a study of a patient."""
    numbers = iter(range(100))

    def put(patient: ClinicPatient, **attributes: str) -> None:
        number = next(numbers)
        issuer = {"IssuerOfPatientID": patient.issuer} if patient.issuer else {}
        ds = dx(study=f"s{number}", PatientID=patient.patient_id, **issuer, **(BORN | attributes))
        stored.put(encode(ds), number, site=patient.site)

    return put


@pytest.fixture
def three(put):
    for patient in (NORTH, SOUTH, EAST):
        put(patient)


@pytest.fixture
def links(stored, accounts):
    """Return ``links(site, ...)``: as somebody of these clinics sees them; without one, of all."""

    def links(*sites: str) -> PatientLinks:
        return PatientLinks(accounts, stored.index.seen_by, SiteScope.of(sites) if sites else SEES_ALL)

    return links


def patients(found) -> list[ClinicPatient]:
    return [each.patient for each in found]


@pytest.mark.usefixtures("three")
class TestGroups:
    def test_linked_and_unlinked(self, links, accounts):
        link = links().link(SOUTH, NORTH, BY)
        assert patients(links().others([NORTH])) == [SOUTH]
        assert patients(links().others([SOUTH])) == [NORTH]
        assert links().others([EAST]) == []
        links("north", "south").unlink(link.number, BY)
        assert links().others([NORTH]) == links().others([SOUTH]) == []
        (past,) = links().listed(10)
        assert (past.is_active, past.linked_by, past.unlinked_by) == (False, "maria", "maria")
        events = [(event.kind, event.who, event.about, event.address) for event in accounts.events(10)]
        assert events == [
            (AuditKind.PATIENTS_UNLINKED, "maria", f"link {link.number}", "192.0.2.9"),
            (AuditKind.PATIENTS_LINKED, "maria", f"link {link.number}", "192.0.2.9"),
        ]
        assert links().link(NORTH, SOUTH, BY).number != link.number

    def test_a_chain_is_one_person(self, links):
        links().link(NORTH, SOUTH, BY)
        middle = links().link(SOUTH, EAST, BY)
        assert patients(links().others([NORTH])) == [SOUTH, EAST]
        assert set(patients(links().others([EAST]))) == {SOUTH, NORTH}
        with pytest.raises(InvalidSelection, match="linked already"):
            links().link(EAST, NORTH, BY)
        links().unlink(middle.number, BY)
        assert patients(links().others([NORTH])) == [SOUTH]

    @pytest.mark.parametrize("scope", [("north",), ("south",), ("north", "east"), ("nowhere",)])
    def test_who_does_not_see_both_clinics_learns_nothing(self, links, accounts, scope):
        """Not even that two patients whom somebody sees are one person by way of a clinic that it does not see."""
        first, second = links().link(NORTH, SOUTH, BY), links().link(SOUTH, EAST, BY)
        seen = links(*scope)
        assert seen.listed(10) == []
        assert seen.others([NORTH, SOUTH, EAST]) == []
        for link in (first, second):
            with pytest.raises(InvalidSelection) as theirs:
                seen.unlink(link.number, BY)
            with pytest.raises(InvalidSelection) as nothing:
                seen.unlink(999, BY)
            assert str(theirs.value) == str(nothing.value)
        assert all(link.is_active for link in links().listed(10))

    def test_only_what_is_there_and_seen_is_linked(self, links, accounts):
        nobody = ClinicPatient("south", "", "nobody")
        errors = set()
        for scope, other in ((("north",), SOUTH), ((), nobody), ((), ClinicPatient("south", "", "")),
                             ((), ClinicPatient("south", "x", SOUTH.patient_id)),
                             ((), ClinicPatient("south", "", "a\0b"))):  # fmt: skip
            with pytest.raises(InvalidSelection) as error:
                links(*scope).link(NORTH, other, BY)
            errors.add(str(error.value))
        assert len(errors) == 1
        with pytest.raises(InvalidSelection, match="two clinics"):
            links().link(NORTH, NORTH, BY)
        assert accounts.events(10) == []

    def test_two_people_who_link_at_once_make_one_link(self, links):
        def link(_) -> bool:
            try:
                links().link(NORTH, SOUTH, BY)
            except InvalidSelection:
                return False
            return True

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(link, range(4))) == [False, False, False, True]


class TestFacts:
    def test_a_patient_is_its_clinic_issuer_and_id(self, links, put):
        put(ClinicPatient("north", "A", "1"), PatientName="ONE^A", PatientSex="F")
        put(ClinicPatient("north", "A", "1"), PatientName="ONE^A", PatientSex="F")
        put(ClinicPatient("north", "B", "1"), PatientName="TWO^B")
        put(ClinicPatient("south", "A", "1"), PatientName="THREE^C")
        facts = links().facts(ClinicPatient("north", "A", "1"))
        assert (facts.name, facts.born, facts.sex, facts.studies) == ("ONE^A", "19700131", "F", 2)
        assert links().facts(ClinicPatient("north", "", "1")) is None
        studies = links().studies(ClinicPatient("north", "A", "1"), SHOWN, 10)
        assert [match["PatientName"] for match in studies] == ["ONE^A", "ONE^A"]
        assert len(links().studies(ClinicPatient("north", "A", "1"), SHOWN, 1)) == 1
        assert links("south").studies(ClinicPatient("north", "A", "1"), SHOWN, 10) == []

    def test_candidates_have_exactly_the_same_name_and_birth_date(self, links, put):
        put(NORTH)
        put(SOUTH)
        put(EAST)
        put(ClinicPatient("south", "", "other date"), PatientBirthDate="19700130")
        put(ClinicPatient("south", "", "other name"), PatientName="GARCIA^ANA^M")
        put(ClinicPatient("south", "", "small"), PatientName="garcia^ana")
        put(ClinicPatient("south", "", ""))
        put(ClinicPatient("north", "", "same clinic"))
        facts = links().facts(NORTH)
        everywhere = ["north", "south", "east"]
        assert [one.patient for one in links().candidates(facts, everywhere)] == [SOUTH, EAST]
        assert [one.patient for one in links("north", "east").candidates(facts, everywhere)] == [EAST]
        links().link(NORTH, SOUTH, BY)
        assert [one.patient for one in links().candidates(facts, everywhere)] == [EAST]

    @pytest.mark.parametrize("missing", ["PatientName", "PatientBirthDate"])
    def test_without_a_name_or_a_birth_date_nobody_is_suggested(self, links, put, missing):
        put(NORTH, **{missing: ""})
        put(SOUTH, **{missing: ""})
        assert links().candidates(links().facts(NORTH), ["north", "south"]) == []
