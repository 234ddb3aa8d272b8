"""Two clinics on one node, with dcmtk and dicomweb-client: for each, the other one does not exist."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from dicomweb_client.api import DICOMwebClient

from tests.samples import data_set_bytes, dx, encode, uid
from tests.system.node import Node, Remote, assert_one_sentence
from tests.system.peers import PATIENT_ROOT, findscu, getscu, movescu, storescu
from tests.system.web import web_address, web_node

NORTH = encode(dx(study="north", PatientName="NORTH^A", PatientID="P1"))
SOUTH = encode(dx(study="south", PatientName="SOUTH^B", PatientID="P1"))
BOTH = encode(dx(study="both", PatientName="BOTH^C", PatientID="P2"))
NOWHERE = {"study": uid("nowhere"), "series": uid("nowhere", "1"), "instance": uid("nowhere", "1", "1")}
TOKENS = {"north": "n" * 32, "south": "s" * 32}


@pytest.fixture
def sinks(start_storescp):
    return {site: start_storescp(ae_title=f"{site.upper()}_SINK") for site in ("north", "south")}


@pytest.fixture
def clinics(make_node, sinks, tmp_path) -> Node:
    """A node with two clinics, who have each an image of a P1, and both the same image of a P2."""
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(f"{token} {site}\n" for site, token in TOKENS.items()))
    remotes = [replace(sink.remote, site=site) for site, sink in sinks.items()]
    remotes += [Remote(f"{site}-viewer", site.upper(), 104, site=site) for site in sinks]
    remotes.append(Remote("reader", "READER", 104, sites=("north", "south")))
    node = web_node(make_node, {"token_file": str(tokens)}, remotes=remotes)
    node.start()
    for calling, samples in (("NORTH", (NORTH, BOTH)), ("SOUTH", (SOUTH, BOTH))):
        files = [one.write(tmp_path / calling / f"{n}.dcm") for n, one in enumerate(samples)]
        storescu(node, *files, calling=calling)
    return node


def uids(sample) -> dict[str, str]:
    ds = sample.dataset()
    return {"study": ds.StudyInstanceUID, "series": ds.SeriesInstanceUID, "instance": ds.SOPInstanceUID}


def keys(level: str, of: dict[str, str]) -> dict[str, str]:
    named = {"StudyInstanceUID": "study", "SeriesInstanceUID": "series", "SOPInstanceUID": "instance"}
    depth = {"STUDY": 1, "SERIES": 2, "IMAGE": 3}[level]
    return {keyword: of[name] for keyword, name in list(named.items())[:depth]}


def without_uids(output: str) -> str:
    """Return what dcmtk printed of the answers, without the UIDs that were asked for, ports and times."""
    return re.sub(r"\d+(\.\d+){5,}", "UID", "\n".join(x for x in output.splitlines() if "DIMSE" in x or "uboper" in x))


def names(answers) -> list[str]:
    return sorted(str(answer.PatientName) for answer in answers)


def test_c_find(clinics):
    asked = {"PatientName": "", "PatientID": "", "NumberOfStudyRelatedInstances": "", "StudyInstanceUID": ""}
    assert names(findscu(clinics, "STUDY", asked, calling="NORTH")) == ["BOTH^C", "NORTH^A"]
    assert names(findscu(clinics, "STUDY", asked, calling="SOUTH")) == ["BOTH^C", "SOUTH^B"]
    assert names(findscu(clinics, "STUDY", asked, calling="READER")) == ["BOTH^C", "BOTH^C", "NORTH^A", "SOUTH^B"]
    assert names(findscu(clinics, "STUDY", asked, calling="ANYBODY")) == ["BOTH^C", "BOTH^C", "NORTH^A", "SOUTH^B"]
    people = {"PatientName": "", "PatientID": "P1", "NumberOfPatientRelatedStudies": ""}
    (one,) = findscu(clinics, "PATIENT", people, model=PATIENT_ROOT, calling="NORTH")
    assert (one.PatientName, one.NumberOfPatientRelatedStudies) == ("NORTH^A", "1")
    assert names(findscu(clinics, "PATIENT", people, model=PATIENT_ROOT, calling="READER")) == ["NORTH^A", "SOUTH^B"]
    for level in ("STUDY", "SERIES", "IMAGE"):
        assert findscu(clinics, level, keys(level, uids(SOUTH)), calling="NORTH") == []


def test_c_get_and_c_move_of_what_another_clinic_has(clinics, sinks, tmp_path):
    """The answers are those for UIDs that do not exist."""
    for level in ("STUDY", "SERIES", "IMAGE"):
        theirs, nothing = (
            [
                getscu(clinics, tmp_path / f"{level} {n}", level, keys(level, of), calling="NORTH"),
                movescu(clinics, "NORTH_SINK", level, keys(level, of), calling="NORTH"),
            ]
            for n, of in enumerate((uids(SOUTH), NOWHERE))
        )
        assert [without_uids(each.output) for each in theirs] == [without_uids(each.output) for each in nothing]
        assert {each.completed for each in theirs} == {0}
    assert sinks["north"].files() == []


def test_each_clinic_gets_its_own_part(clinics, sinks, tmp_path):
    for site, sample in (("north", NORTH), ("south", SOUTH)):
        calling, folder = site.upper(), tmp_path / "got" / site
        for each in (sample, BOTH):
            assert getscu(clinics, folder, "STUDY", keys("STUDY", uids(each)), calling=calling).completed == 1
            moved = movescu(clinics, f"{calling}_SINK", "STUDY", keys("STUDY", uids(each)), calling=calling)
            assert (moved.status, moved.completed) == (0, 1)
        assert sinks[site].data_sets() == sorted([sample.data_set, BOTH.data_set])


def test_the_console_of_another_clinic_is_no_destination(clinics, sinks):
    study = keys("STUDY", uids(NORTH))
    theirs, nobody = (movescu(clinics, to, "STUDY", study, calling="NORTH") for to in ("SOUTH_SINK", "SINKS_NONE"))
    assert theirs.status == nobody.status == 0xA801
    assert without_uids(theirs.output).replace("SOUTH_SINK", "X") == without_uids(nobody.output).replace(
        "SINKS_NONE", "X"
    )
    assert sinks["south"].files() == []


def test_who_sees_both_clinics_cannot_mix_them_up(clinics, sinks):
    refused = movescu(clinics, "SOUTH_SINK", "STUDY", keys("STUDY", uids(NORTH)), calling="READER")
    assert refused.status == 0xA801
    assert "may not have images of this clinic" in clinics.output
    assert sinks["south"].files() == []
    sent = movescu(clinics, "SOUTH_SINK", "STUDY", keys("STUDY", uids(SOUTH)), calling="READER")
    assert (sent.status, sent.completed) == (0, 1)


def test_dicomweb_client(clinics):
    url = web_address(clinics)
    for site, sample in (("north", NORTH), ("south", SOUTH)):
        client = DICOMwebClient(url, headers={"Authorization": f"Bearer {TOKENS[site]}"})
        found = {one["00100010"]["Value"][0]["Alphabetic"] for one in client.search_for_studies(fields=["PatientName"])}
        assert found == {str(sample.dataset().PatientName), "BOTH^C"}
        own, other = (uids(one)["study"] for one in ((NORTH, SOUTH) if site == "north" else (SOUTH, NORTH)))
        assert len(client.retrieve_study(own)) == 1
        with pytest.raises(Exception, match="404"):
            client.retrieve_study(other)


def test_restore_asks_whose_patient_it_is(clinics, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    asked = ("restore", "--to", one, "--patient-id", "P1")
    assert_one_sentence(clinics.cli(*asked, exit_code=None), "--site north or --site south")
    clinics.cli(*asked, "--site", "south")
    assert [data_set_bytes(path) for path in one.rglob("*.dcm")] == [SOUTH.data_set]
    clinics.cli("restore", "--to", two, "--all")
    assert len(list(two.rglob("*.dcm"))) == 4
    assert len(clinics.cli("find", "--site", "north", "--json").stdout.splitlines()) == 2
    assert len(clinics.cli("find", "--json").stdout.splitlines()) == 4


def test_restore_sends_a_console_its_own_clinic_s_images(clinics, sinks):
    done = clinics.cli("restore", "--to", "SOUTH_SINK", "--all")
    assert "Only images of south are sent" in done.stderr
    assert sinks["south"].data_sets() == sorted([SOUTH.data_set, BOTH.data_set])


def test_a_device_that_sees_all_clinics_is_named(clinics):
    assert "has no site" not in clinics.cli("status", exit_code=None).stdout
    clinics.remotes.append(Remote("viewer", "VIEWER", 104))
    clinics.write_settings()
    note = "[[remote]] viewer has no site: it finds and fetches the images of all clinics"
    for command in ("status", "check"):
        assert note in clinics.cli(command, exit_code=None).stdout
