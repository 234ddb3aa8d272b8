"""One SOP Instance UID, several Data Sets: all are stored, and one rule decides which of them answers."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from pydicom.dataset import Dataset

from tests.samples import Sample, data_set_bytes, dx, encode, replace, uid
from tests.system.contents import assert_index_equals_files, digests, index_rows, visible
from tests.system.peers import dcmtk, findscu, movescu, storescu


def image(number: str, *, description: str = "Chest", pixels: int = 0):
    """Return one SOP Instance, always the same UIDs, told apart by its Instance Number."""
    ds = replace(dx(), InstanceNumber=number, StudyDescription=description)
    ds.PixelData = bytes([pixels]) * len(ds.PixelData)
    return encode(ds)


def answers(node):
    """Return the Instance Numbers that C-FIND answers for it."""
    keys = {"SOPInstanceUID": image("1").sop_instance_uid, "InstanceNumber": ""}
    return [int(answer.InstanceNumber) for answer in findscu(node, "IMAGE", keys)]


def remarks(node):
    return [(remark["calling_ae_title"], remark["flags"]) for remark in node.json("status", exit_code=None)["remarks"]]


def test_the_same_bytes_again_are_one_file(node, tmp_path):
    sample = image("1")

    statuses = [answer.status for _ in range(3) for answer in node.send([sample, sample])]
    statuses += [answer.status for answer in node.send([sample], calling="ANOTHER")]
    node.restart()
    statuses += [answer.status for answer in node.send([sample])]

    held = node.json("status", exit_code=None)["holdings"]
    assert statuses == [0] * 8
    assert digests(visible(node)) == {sample.sha256: 1}
    assert (held["instances"], held["versions"], held["flagged"]) == (1, 1, 0)
    assert digests(node.restored(tmp_path / "back")) == {sample.sha256: 1}


def test_other_bytes_from_the_same_ae_take_over(node, tmp_path):
    first, second = image("1"), image("2", description="Corrected")

    assert [answer.status for answer in node.send([first, second])] == [0, 0]

    assert answers(node) == [2]
    (study,) = findscu(
        node, "STUDY", {"StudyInstanceUID": "", "StudyDescription": "", "NumberOfStudyRelatedInstances": ""}
    )
    assert (study.StudyDescription, int(study.NumberOfStudyRelatedInstances)) == ("Corrected", 1)
    assert remarks(node) == []
    assert digests(visible(node)) == dict.fromkeys([first.sha256, second.sha256], 1)
    assert digests(node.restored(tmp_path / "all")) == dict.fromkeys([first.sha256, second.sha256], 1)
    assert digests(node.restored(tmp_path / "one", "--all")) == {second.sha256: 1}


def test_other_bytes_from_another_ae_are_a_clash_and_do_not_take_over(node, tmp_path):
    first, clash = image("1"), image("2", description="Of somebody else")

    assert node.send([first], calling="CONSOLE")[0].status == 0
    assert node.send([clash], calling="STRANGER")[0].status == 0

    assert answers(node) == [1]
    (study,) = findscu(node, "STUDY", {"StudyInstanceUID": "", "StudyDescription": ""})
    assert study.StudyDescription == "Chest"
    assert remarks(node) == [("STRANGER", ["clash"])]
    assert digests(node.restored(tmp_path / "all")) == dict.fromkeys([first.sha256, clash.sha256], 1)
    assert digests(node.restored(tmp_path / "one", "--all")) == {first.sha256: 1}
    node.cli("status")  # nothing that a person must act on


def test_the_first_sender_goes_on_after_a_clash(node):
    assert node.send([image("1")], calling="CONSOLE")[0].status == 0
    assert node.send([image("2")], calling="STRANGER")[0].status == 0
    assert node.send([image("3")], calling="CONSOLE")[0].status == 0
    assert node.send([image("4")], calling="STRANGER")[0].status == 0

    assert answers(node) == [3]
    assert remarks(node) == [("STRANGER", ["clash"])] * 2


def test_what_was_there_before_it_was_changed_comes_back(start_node, storescp, tmp_path):
    """To a folder and to an AE: the version of a moment before the correction, and the one that never answered."""
    node = start_node(remotes=[storescp.remote])
    samples = [image("1"), image("2", description="Of somebody else"), image("3", description="Corrected")]
    first, clash, corrected = samples
    for number, (sample, calling) in enumerate(zip(samples, ["CONSOLE", "STRANGER", "CONSOLE"], strict=True)):
        storescu(node, sample.write(tmp_path / f"{number}.dcm"), calling=calling)
    listed = [json.loads(line) for line in node.cli("find", "--versions", "all", "--json").stdout.splitlines()]
    came = [datetime.fromisoformat(version["received_at"]) for version in listed]
    before = (came[2] - timedelta(microseconds=1)).isoformat()

    then = node.restored(tmp_path / "then", "--all", "--as-of", before)
    since = node.restored(tmp_path / "since", "--all", "--as-of", came[2].isoformat())
    theirs = node.restored(tmp_path / "theirs", "--version", clash.sha256[:12])
    node.cli("restore", "--to", "sink", "--all", "--as-of", before)

    assert [version["answering"] for version in listed] == [False, False, True]
    assert [data_set_bytes(path) for path in then] == [first.data_set]
    assert [data_set_bytes(path) for path in since] == [corrected.data_set]
    assert [data_set_bytes(path) for path in theirs] == [clash.data_set]
    assert storescp.data_sets() == [first.data_set]
    node.cli("restore", "--to", "sink", "--version", clash.sha256[:12])
    assert storescp.data_sets() == sorted([first.data_set, clash.data_set])


def test_pixels_alone_make_a_version(node, tmp_path):
    """What Orthanc and qrscp lose: everything that a query shows is the same."""
    first, second = image("1", pixels=1), image("1", pixels=2)

    node.send([first, second])

    assert answers(node) == [1]
    assert digests(node.restored(tmp_path / "all")) == dict.fromkeys([first.sha256, second.sha256], 1)


def test_the_same_data_set_in_another_transfer_syntax_is_a_version(node, tmp_path):
    first, second = encode(dx()), encode(dx(), "1.2.840.10008.1.2")

    node.send([first, second])

    assert len(index_rows(node)) == 1
    assert digests(node.restored(tmp_path / "all")) == dict.fromkeys([first.sha256, second.sha256], 1)


def test_one_sop_instance_uid_in_two_studies_is_two_instances_and_flagged(node):
    here, there = encode(dx()), encode(dx(StudyInstanceUID=uid("elsewhere")))

    node.send([here, there])

    found = findscu(node, "IMAGE", {"SOPInstanceUID": here.sop_instance_uid, "StudyInstanceUID": ""})
    assert {answer.StudyInstanceUID for answer in found} == {uid("1"), uid("elsewhere")}
    assert [flags for _, flags in remarks(node)] == [["clash"]]


@pytest.mark.parametrize("calling", ["CONSOLE", "STRANGER"])
def test_c_move_sends_the_version_that_answers(start_node, storescp, calling):
    node = start_node(remotes=[storescp.remote])
    first, second = image("1"), image("2")
    node.send([first], calling="CONSOLE")
    node.send([second], calling=calling)

    moved = movescu(node, "SINK", "STUDY", {"StudyInstanceUID": uid("1")})

    assert (moved.status, moved.completed, moved.failed) == (0, 1, 0)
    assert storescp.data_sets() == [second.data_set if calling == "CONSOLE" else first.data_set]


def test_versions_survive_a_rebuild(node):
    node.send([image("1"), image("2")], calling="CONSOLE")
    node.send([image("3")], calling="STRANGER")
    node.send([image("1")], calling="STRANGER")  # held already
    node.send([image("4")], calling="CONSOLE")
    assert answers(node) == [4]

    node.stop()
    assert_index_equals_files(node)

    node.start()
    assert answers(node) == [4]


def studies(count: int):
    """Return one image of each study, with a private sequence in it."""
    inner = Dataset()
    inner.add_new(0x00091010, "LO", "ours")
    for number in range(count):
        ds = dx(study=f"s{number}", PatientID=f"P{number}")
        ds.add_new(0x00090010, "LO", "MAKER")
        ds.add_new(0x00091001, "SQ", [inner])
        yield encode(ds)


def test_the_same_studies_in_another_encoding_are_no_alarm_and_no_clash(node, tmp_path):
    """A console sends Explicit VR, and a PACS forwards Implicit VR and what it has compressed without loss."""
    sent = list(studies(33))
    files = [sample.write(tmp_path / "sent" / f"{number}.dcm") for number, sample in enumerate(sent)]
    for number, file in enumerate(files):
        dcmtk("dcmcjpeg", "+e1", file, file.with_name(f"{number}.jpeg"))

    storescu(node, *files, options=("-xe",), calling="CONSOLE")
    storescu(node, *files, options=("-xi",), calling="PACS")
    storescu(node, *(file.with_suffix(".jpeg") for file in files), options=("-xs",), calling="PACS")

    status = node.json("status")
    assert (status["holdings"]["instances"], status["holdings"]["versions"]) == (33, 99)
    assert (status["holdings"]["flagged"], status["remarks"], status["storms"]) == (0, [], [])
    assert digests(node.restored(tmp_path / "one", "--all")) == {sample.sha256: 1 for sample in sent}
    assert_index_equals_files(node)


def test_what_this_node_sent_decoded_comes_back_as_what_it_was(start_node, start_storescp, tmp_path):
    """A console that was filled again forwards what it got."""
    console = start_storescp(ae_title="CONSOLE", options=("+xi",))
    node = start_node(remotes=[console.remote])
    source = next(studies(1)).write(tmp_path / "source.dcm")
    dcmtk("dcmcjpeg", "+e1", source, tmp_path / "coded.dcm")
    coded = Sample.of_file(tmp_path / "coded.dcm")
    assert coded is not None
    storescu(node, tmp_path / "coded.dcm", options=("-xs",), calling="CONSOLE")

    node.cli("restore", "--to", "console", "--all")
    storescu(node, *console.files(), options=("-xi",), calling="CONSOLE")

    assert len(visible(node)) == 2
    assert node.json("status")["remarks"] == []
    assert digests(node.restored(tmp_path / "one", "--all")) == {coded.sha256: 1}
