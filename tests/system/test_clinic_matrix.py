"""The matrix service x caller x clinic over DIMSE, on running nodes: what is another clinic's is answered as nothing.

``services/permissions.py`` says who may query and retrieve, the clinics of a caller what it finds then.  One node
trusts this machine, the other one does not.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation

from backup_scp.dimse.messages.command_set import Field
from backup_scp.ports import EVERY_SERVICE, SEES_ALL, SEES_NOTHING, STORING_SERVICES, RemoteAE, RemoteService, SiteScope
from backup_scp.services.permissions import CallerKind, Right, may, remote_may
from tests.dimse.conftest import OpenStores, Recorder
from tests.processes import wait_until
from tests.samples import Sample, dx, encode, uid
from tests.stored import stored_in
from tests.system import commitments
from tests.system.node import Node, Remote
from tests.system.peers import echoscu
from tests.system.pynetdicom_peers import NATIVE, PATIENT_ROOT, Counts, Sink, find, get, move

DX = str(DigitalXRayImageStorageForPresentation)
NORTH = encode(dx(study="north", PatientName="NORTH^A", PatientID="P1"))
SOUTH = encode(dx(study="south", PatientName="SOUTH^B", PatientID="P1"))
BOTH = encode(dx(study="both", PatientName="BOTH^C", PatientID="P2"))
NOWHERE = encode(dx(study="nowhere", PatientName="NO^BODY", PatientID="P3"))
NOT_AUTHORISED, UNKNOWN_DESTINATION = 0x0124, 0xA801
SITES = {"north": NORTH, "south": SOUTH}
TESTED = {Field.C_ECHO_RQ, Field.C_STORE_RQ, Field.C_FIND_RQ, Field.C_MOVE_RQ, Field.C_GET_RQ, Field.N_ACTION_RQ}
WITHOUT_IMAGES = {
    Field.N_EVENT_REPORT_RQ,
    Field.N_EVENT_REPORT_RSP,
}  # they are about requests of this node, or answer its own


class Who(NamedTuple):
    """What the settings say of a caller."""

    kind: CallerKind
    scope: SiteScope
    services: frozenset[RemoteService] = EVERY_SERVICE

    def may(self, right: Right) -> bool:
        if self.kind is CallerKind.CONFIGURED_AE:
            return remote_may(RemoteAE("", "", "", services=self.services), right)
        return may(self.kind, right, self.scope)


CALLERS = {
    "NORTH": Who(CallerKind.CONFIGURED_AE, SiteScope.of(["north"])),
    "NORTH_DX": Who(CallerKind.CONFIGURED_AE, SiteScope.of(["north"]), STORING_SERVICES),
    "READER": Who(CallerKind.CONFIGURED_AE, SiteScope.of(["north", "south"])),
    "ANY_SITE": Who(CallerKind.CONFIGURED_AE, SEES_ALL),
    "STRANGER": Who(CallerKind.UNKNOWN_AE, SEES_NOTHING),
}
REMOTES = [
    Remote("north-viewer", "NORTH", 104, site="north"),
    Remote("north-console", "NORTH_DX", 104, site="north", query=False),
    Remote("reader", "READER", 104, sites=("north", "south")),
    Remote("pacs", "ANY_SITE", 104),
    Remote("south-viewer", "SOUTH", 104, site="south"),
]


@pytest.fixture(params=["trusted", "not trusted"])
def place(request, make_node) -> Any:
    """A node that has images of two clinics, who may call it, and a console that may have images of both."""
    is_trusted = request.param == "trusted"
    with Sink({DX: NATIVE}, ae_title="SINK") as sink:
        remotes = [*REMOTES, dataclasses.replace(sink.remote, sites=("north", "south"))]
        settings = {"node": {"trust_this_machine": is_trusted}, "commitment": {"wait_s": 0, "retry_s": 0.2}}
        node = make_node(remotes=remotes, settings=settings)
        node.start()
        for calling, samples in (("NORTH_DX", (NORTH, BOTH)), ("SOUTH", (SOUTH, BOTH))):
            assert [answer.status for answer in node.send(samples, calling=calling)] == [0, 0]
        yield node, callers(is_trusted=is_trusted), sink


def callers(*, is_trusted: bool) -> dict[str, Who]:
    if not is_trusted:
        return CALLERS
    here = {name: Who(CallerKind.THIS_MACHINE, who.scope) for name, who in CALLERS.items()}
    return here | {"STRANGER": Who(CallerKind.THIS_MACHINE, SEES_ALL)}


def keys(level: str, of: Sample) -> dict[str, str]:
    ds = of.dataset()
    named = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
    depth = list(named).index(level) + 1
    return {keyword: ds[keyword].value for keyword in list(named.values())[:depth]}


def last(answers: list[Counts], of: Sample) -> Counts:
    """Return the final answer, without the UIDs that were asked for."""
    named = set(keys("IMAGE", of).values())
    return dataclasses.replace(answers[-1], failed_list=tuple(set(answers[-1].failed_list) - named))


class Retrieved(NamedTuple):
    """The answers to all ways to ask for one image."""

    found: tuple[tuple[int, int, str], ...]
    got: tuple[Counts, ...]
    moved: tuple[Counts, ...]
    arrived: int


def ask(node: Node, calling: str, of: Sample, sink: Sink) -> Retrieved:
    found, got, moved, arrived, before = [], [], [], 0, len(sink.stored)
    for level in ("STUDY", "SERIES", "IMAGE"):
        wanted = keys(level, of)
        answer = find(node, level, wanted | {"PatientName": ""}, calling=calling)
        found.append((answer.status, len(answer.matches), answer.error_comment))
        answers, stored = get(node, level, wanted, {DX: NATIVE}, calling=calling)
        got.append(last(answers, of))
        moved.append(last(move(node, "SINK", level, wanted, calling=calling), of))
        arrived += len(stored)
    return Retrieved(tuple(found), tuple(got), tuple(moved), arrived + len(sink.stored) - before)


def test_every_service_is_in_the_matrix(tmp_path):
    with stored_in(tmp_path) as stored:
        served = OpenStores(tmp_path, stored.archive, stored.index, Recorder()).services()  # type: ignore[arg-type]
    assert set(served) == TESTED | WITHOUT_IMAGES


def test_find_get_and_move(place):
    node, known, sink = place
    for name, who in known.items():
        answers = {sample: ask(node, name, sample, sink) for sample in (NORTH, SOUTH, NOWHERE)}
        may_ask = who.may(Right.FIND) and who.may(Right.RETRIEVE)
        for site, sample in SITES.items():
            if not may_ask or not who.scope.holds(site):
                assert answers[sample] == answers[NOWHERE], (name, site)
            else:
                assert [number for _, number, _ in answers[sample].found] == [1, 1, 1], (name, site)
                assert [one.completed for one in answers[sample].got + answers[sample].moved] == [1] * 6
                assert answers[sample].arrived == 6
        statuses = {status for status, _, _ in answers[NOWHERE].found} | {one.status for one in answers[NOWHERE].got}
        assert statuses == {0 if may_ask else NOT_AUTHORISED}, name
        assert answers[NOWHERE].arrived == 0


def test_one_patient_id_and_one_study_in_two_clinics(place):
    node, known, _ = place
    for name, who in known.items():
        if not who.may(Right.FIND):
            continue
        sites = [site for site in SITES if who.scope.holds(site)]
        asked = {"PatientID": "P1", "PatientName": "", "NumberOfPatientRelatedStudies": ""}
        people = find(node, "PATIENT", asked, model=PATIENT_ROOT, calling=name)
        assert people.values("PatientName") == sorted(str(SITES[site].dataset().PatientName) for site in sites)
        assert set(people.values("NumberOfPatientRelatedStudies")) == {"1"}
        asked = keys("STUDY", BOTH) | {"NumberOfStudyRelatedInstances": ""}
        assert find(node, "STUDY", asked, calling=name).values("NumberOfStudyRelatedInstances") == ["1"] * len(sites)
        all_studies = find(node, "STUDY", {"StudyInstanceUID": ""}, calling=name)
        assert len(all_studies.matches) == 2 * len(sites)


def test_the_console_of_another_clinic_is_unknown(place):
    node, known, _ = place
    for name, who in known.items():
        if who.may(Right.RETRIEVE) and not who.scope.holds("south"):
            theirs, nobody = (move(node, to, "STUDY", keys("STUDY", NORTH), calling=name) for to in ("SOUTH", "NOBODY"))
            assert theirs[-1].status == nobody[-1].status == UNKNOWN_DESTINATION
            assert theirs[-1].error_comment.replace("SOUTH", "NOBODY") == nobody[-1].error_comment


def test_everybody_echoes_and_stores_and_learns_nothing_by_it(place):
    """The bytes, and the UID, of what another clinic has are stored as if nobody had them."""
    node, known, _ = place
    for number, name in enumerate(known):
        echoscu(node, calling=name)
        other = encode(dx(study="south", PatientName=f"OTHER^{number}", PatientID="P1"))
        new = encode(dx(study=f"new{number}", PatientID="P1"))
        answers = [node.send([sample, sample], calling=name) for sample in (SOUTH, other, new)]
        assert len({(answer.status, answer.error_comment) for pair in answers for answer in pair}) == 1
        assert answers[0][0].status == 0


def test_what_another_clinic_has_is_not_committed(place):
    """The reason is that of an image which is not here at all."""
    node, known, _ = place
    for name, who in known.items():
        reports: list[commitments.Report] = []

        def take(event, reports=reports) -> tuple[int, None]:
            reports.append(commitments.Report.of(event))
            return 0, None

        with commitments.associated(node, name, on_report=take) as opened:
            status, transaction = commitments.ask(opened, map(commitments.pair, (NORTH, SOUTH, NOWHERE)), uid(name))
            assert status == 0
            (report,) = wait_until(reports.copy, what=f"the report to {name}")
        assert report.transaction_uid == transaction
        for site, sample in SITES.items():
            is_there = who.scope.holds(site)
            assert (commitments.pair(sample) in report.committed) == is_there, (name, site)
            if not is_there:
                assert report.failed[commitments.pair(sample)] == report.failed[commitments.pair(NOWHERE)]
