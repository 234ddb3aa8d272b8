"""Identity never blocks: what is missing, malformed or in conflict is kept, can be found and comes back."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.samples import dx, encode, odd_identities, unparsable, with_value
from tests.system.contents import (
    archive_of,
    assert_index_equals_files,
    digests,
    private_information,
    staged,
    visible,
)
from tests.system.peers import dcmtk, findscu, getscu, movescu

# pydicom warns of the values when it reads what findscu got.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ODD = {sample.name: sample for sample in odd_identities()}
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName")


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("sample", ODD.values(), ids=list(ODD))
def test_each_is_kept_found_and_restored(node, sample, tmp_path):
    before = set(everything_below(tmp_path))

    (answer,) = node.send([sample])

    assert (answer.status, answer.error_comment) == (0, "")
    assert digests(visible(node)) == {sample.sha256: 1}
    assert staged(node) == []
    assert digests(node.restored(tmp_path / "back")) == {sample.sha256: 1}
    found = findscu(node, "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid, "SOPClassUID": ""})
    assert [(answer.SOPInstanceUID, answer.SOPClassUID) for answer in found] == [
        (sample.sop_instance_uid, sample.sop_class_uid)
    ]
    new = [name for name in everything_below(tmp_path) if name not in before and not name.startswith("back")]
    assert all(name.startswith("node1/data") for name in new)


def test_all_of_them_in_one_archive(start_node, tmp_path):
    node = start_node(settings={"log": {"level": "DEBUG"}})
    samples = list(ODD.values())

    answers = node.send(samples)
    again = node.send(samples)
    node.restart()

    sent = Counter(sample.sha256 for sample in samples)
    assert {answer.status for answer in [*answers, *again]} == {0}
    assert digests(visible(node)) == sent
    assert digests(node.restored(tmp_path / "back")) == sent
    node.stop()
    assert_index_equals_files(node)


def test_what_cannot_be_parsed_is_flagged_and_listed(node, tmp_path):
    sample = unparsable()
    node.send([sample], calling="CONSOLE")

    status = node.json("status")
    (remark,) = status["remarks"]
    (path,) = visible(node)
    (answer,) = findscu(node, "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid, "SOPClassUID": ""})

    assert status["holdings"]["flagged"] == 1
    assert (remark["sop_instance_uid"], remark["flags"]) == (sample.sop_instance_uid, ["unparsed"])
    assert remark["calling_ae_title"] == "CONSOLE"
    assert sample.sop_instance_uid in node.cli("status").stdout
    assert answer.SOPClassUID == sample.sop_class_uid
    assert private_information(path)["sha256"] == sample.sha256


def test_what_cannot_be_parsed_goes_back_by_c_move_and_c_get(start_node, storescp, tmp_path):
    node = start_node(remotes=[storescp.remote])
    sample = unparsable()
    node.send([sample])

    moved = movescu(node, "SINK", "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid})
    got = getscu(node, tmp_path / "got", "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid})

    assert (moved.status, moved.completed, moved.failed) == (0, 1, 0)
    assert (got.status, got.completed, got.failed) == (0, 1, 0)
    assert storescp.data_sets() == [sample.data_set]


@pytest.mark.parametrize("kept", [0, 1, 7, 100, 400], ids=lambda kept: f"{kept} bytes")
def test_a_data_set_that_ends_too_early_is_kept(node, kept, tmp_path):
    whole = encode(dx())
    cut = type(whole)(**{**vars(whole), "data_set": whole.data_set[:kept]})

    assert node.send([cut])[0].status == 0

    assert digests(node.restored(tmp_path / "back")) == {cut.sha256: 1}
    assert len(findscu(node, "IMAGE", {"SOPInstanceUID": cut.sop_instance_uid})) == 1


def test_padding_of_uids_does_not_count(node):
    paddings = [b"", b"\0", b"\0\0\0", b" ", b"   ", b" \0 "]
    plain = "1.2.826.0.1.3680043.10.9999.5"
    padded = [
        with_value(encode(dx(SOPInstanceUID=plain, InstanceNumber="1")), "SOPInstanceUID", plain.encode() + padding)
        for padding in paddings
    ]

    answers = node.send(padded)

    assert {padding: answer.status for padding, answer in zip(paddings, answers, strict=True) if answer.status} == {}
    assert len(findscu(node, "IMAGE", {"SOPInstanceUID": plain})) == 1
    assert node.json("status")["holdings"]["instances"] == 1


@pytest.mark.parametrize("value", ["1.2\0.3", "1.2.3\n", "1.2.3\t", "1.2 \\ 1.3", " 1.2.3", "\xe9\xe8"], ids=ascii)
def test_a_uid_of_odd_characters_agrees_with_itself(node, value, tmp_path):
    """The same bytes in Command Set and Data Set are never a disagreement."""
    sample = with_value(encode(dx()), "SOPInstanceUID", value.encode("latin-1"))
    sample = dataclasses.replace(sample, sop_instance_uid=value)

    (answer,) = node.send([sample])

    assert (answer.status, answer.error_comment) == (0, "")
    assert digests(node.restored(tmp_path / "back")) == {sample.sha256: 1}


def test_one_patient_id_of_two_people_merges_nobody(node):
    one = encode(dx(study="1", PatientID="SAME", PatientName="First^One", PatientBirthDate="19500101"))
    other = encode(dx(study="2", PatientID="SAME", PatientName="Second^Two", PatientBirthDate="19990101"))

    node.send([one, other])

    found = findscu(node, "STUDY", {"PatientID": "SAME", "PatientName": "", "PatientBirthDate": ""})
    assert {(str(answer.PatientName), answer.PatientBirthDate) for answer in found} == {
        ("First^One", "19500101"),
        ("Second^Two", "19990101"),
    }


def test_nothing_is_written_outside_of_the_archive(start_node, tmp_path):
    node = start_node()
    paths = ["../../escaped", "/etc/escaped", "..", ".", "", "C:\\escaped", "a/b/../../../c/d", "con", "x" * 300, "n\0ul", "new\nline"]
    samples = [
        with_value(encode(dx(SOPInstanceUID=f"1.2.{n}.{m}")), name, path.encode())
        for m, name in enumerate(["StudyInstanceUID", "SeriesInstanceUID"])
        for n, path in enumerate(paths)
    ]
    samples += [
        dataclasses.replace(
            with_value(encode(dx(number=n)), "SOPInstanceUID", path.encode()), sop_instance_uid=path
        )
        for n, path in enumerate(filter(None, paths))
    ]
    outside = everything_outside(tmp_path, node)

    answers = node.send(samples)

    assert [(s.sop_instance_uid, a.error_comment) for s, a in zip(samples, answers, strict=True) if a.status] == []
    assert digests(visible(node)) == Counter(sample.sha256 for sample in samples)
    assert everything_outside(tmp_path, node) == outside
    assert all(set(part) <= set("0123456789.abcdefx") | set("dcm") for part in parts_of_names(node))
    files = node.restored(tmp_path / "back")
    assert digests(files) == digests(visible(node))
    assert all(path.resolve().is_relative_to(tmp_path / "back") for path in files)
    assert not (tmp_path / "escaped").exists()
    assert not Path("/etc/escaped").exists()


def everything_outside(folder: Path, node) -> list[str]:
    return [name for name in everything_below(folder) if not (folder / name).is_relative_to(archive_of(node))]


def parts_of_names(node) -> set[str]:
    return {part for path in visible(node) for part in path.relative_to(archive_of(node)).parts}


def test_no_patient_in_a_path_or_in_what_the_node_prints(start_node, tmp_path):
    node = start_node(settings={"log": {"level": "DEBUG"}})
    samples = list(ODD.values())
    node.send(samples)
    node.send([type(s)(**{**vars(s), "sop_instance_uid": "1.2.3"}) for s in samples[:3]])  # refused: 0xA900
    findscu(node, "STUDY", {"PatientName": "Family*", "PatientID": "PID1", "StudyInstanceUID": ""})
    dcmtk("findscu", "-S", "-k", "QueryRetrieveLevel=NONSENSE", "-k", "PatientID=PID1", *at(node), exit_code=None)
    dcmtk("movescu", "-P", "-aem", "NO", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=PID1", *at(node), exit_code=None)
    node.restart()
    printed = node.output + node.cli("verify").stdout + node.cli("status").stdout
    printed += node.cli("restore", "--to", tmp_path / "back", "--all").stdout

    said = {str(value) for sample in samples for value in personal(sample)}
    names = "\n".join(
        name for folder in (node.home, tmp_path / "back") for name in everything_below(folder) + os.listdir(folder)
    )
    assert {"FamilyPID1^Given", "PID1", "Somebody^Else", "19700501"} <= said
    assert [value for value in said if value in printed] == []
    assert [value for value in said if value in names] == []
    assert len(node.output.splitlines()) > 20


def personal(sample):
    """Yield what identifies the patient, and the parts of names."""
    if sample.name in {"cannot be parsed", "private Transfer Syntax"}:
        return
    ds = sample.dataset()
    for keyword in PATIENT:
        value = str(ds.get(keyword) or "")
        yield from {value, *value.split("^")} - {""}


def at(node) -> list[str]:
    return ["-aec", node.ae_title, node.host, str(node.port)]
