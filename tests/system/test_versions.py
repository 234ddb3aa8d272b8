"""One SOP Instance UID, several Data Sets: every one is kept, and one rule says which of them answers."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from tests.samples import data_set_bytes, dx, encode, replace, uid
from tests.system.contents import assert_index_equals_files, digests, index_rows, visible
from tests.system.peers import findscu, movescu, storescu


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
