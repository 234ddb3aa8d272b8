"""Missing, malformed or conflicting identity: the image is stored, can be found and comes back."""

from __future__ import annotations

import dataclasses
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


def refused(samples, answers) -> dict[str, tuple[int, str]]:
    """Return Status and Error Comment of whatever was not answered with success, by the sample's name."""
    pairs = zip(samples, answers, strict=True)
    return {sample.name: (answer.status, answer.error_comment) for sample, answer in pairs if answer.status}


def found(node, samples) -> dict[str, list[tuple[str, str]]]:
    """Return what C-FIND answers at IMAGE level to the SOP Instance UID of each sample."""
    answers = {
        sample.name: findscu(node, "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid, "SOPClassUID": ""})
        for sample in samples
    }
    return {name: [(ds.SOPInstanceUID, ds.SOPClassUID) for ds in several] for name, several in answers.items()}


def test_each_is_kept_found_and_restored(node, tmp_path):
    samples = list(ODD.values())
    sent = Counter(sample.sha256 for sample in samples)

    assert refused(samples, node.send(samples)) == {}
    assert refused(samples, node.send(samples)) == {}  # again: held, nothing doubled
    node.restart()

    assert found(node, samples) == {s.name: [(s.sop_instance_uid, s.sop_class_uid)] for s in samples}
    assert digests(visible(node)) == sent
    assert digests(node.restored(tmp_path / "back")) == sent
    assert staged(node) == []
    node.stop()
    assert_index_equals_files(node)


def test_what_cannot_be_parsed_is_flagged_and_listed(node, tmp_path):
    sample = unparsable()
    node.send([sample], calling="CONSOLE")

    status = node.json("status", exit_code=None)
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


def test_a_data_set_that_ends_too_early_is_kept(node, tmp_path):
    whole = [encode(dx(number=length), name=f"{length} bytes") for length in (0, 1, 7, 8, 100, 400, 2000)]
    cut = [dataclasses.replace(s, data_set=s.data_set[: int(s.name.split()[0])]) for s in whole]

    assert refused(cut, node.send(cut)) == {}

    assert found(node, cut) == {s.name: [(s.sop_instance_uid, s.sop_class_uid)] for s in cut}
    assert digests(node.restored(tmp_path / "back")) == Counter(sample.sha256 for sample in cut)


def test_padding_of_uids_does_not_count(node):
    plain = encode(dx(SOPInstanceUID="1.2.826.0.1.3680043.10.9999.5"))
    padded = [
        dataclasses.replace(
            with_value(plain, "SOPInstanceUID", plain.sop_instance_uid.encode() + padding), name=repr(padding)
        )
        for padding in (b"", b"\0", b"\0\0\0", b" ", b"   ", b" \0 ")
    ]

    assert refused(padded, node.send(padded)) == {}

    assert len(found(node, [plain])[plain.name]) == 1
    assert node.json("status", exit_code=None)["holdings"]["instances"] == 1


def test_a_uid_of_odd_characters_agrees_with_itself(node, tmp_path):
    """The same bytes in Command Set and Data Set are never a disagreement."""
    uids = ["1.2\0.3", "1.2.4\n", "1.2.5\t", "1.2 \\ 1.6", " 1.2.7", "\xe9\xe8", "1.2.8\\", "\\", "\\\\1.2.9"]
    samples = [
        dataclasses.replace(
            with_value(encode(dx()), "SOPInstanceUID", uid.encode("latin-1")), sop_instance_uid=uid, name=ascii(uid)
        )
        for uid in uids
    ]

    assert refused(samples, node.send(samples)) == {}
    assert digests(node.restored(tmp_path / "back")) == Counter(sample.sha256 for sample in samples)


def test_one_patient_id_of_two_people_merges_nobody(node):
    one = encode(dx(study="1", PatientID="SAME", PatientName="First^One", PatientBirthDate="19500101"))
    other = encode(dx(study="2", PatientID="SAME", PatientName="Second^Two", PatientBirthDate="19990101"))

    node.send([one, other])

    found = findscu(node, "STUDY", {"PatientID": "SAME", "PatientName": "", "PatientBirthDate": ""})
    assert {(str(answer.PatientName), answer.PatientBirthDate) for answer in found} == {
        ("First^One", "19500101"),
        ("Second^Two", "19990101"),
    }


# With a slash, but none that would leave the test's folder if the node took it for a path.
PATHS = ["folder/escaped", ".", "", "folder\\escaped", "a/b/c/d", "con", "x" * 300]


def test_nothing_is_written_outside_of_the_archive(start_node, tmp_path):
    node = start_node()
    samples = [
        with_value(encode(dx(SOPInstanceUID=f"1.2.{n}.{m}")), name, path.encode())
        for m, name in enumerate(["StudyInstanceUID", "SeriesInstanceUID"])
        for n, path in enumerate(PATHS)
    ]
    samples += [
        dataclasses.replace(with_value(encode(dx(number=n)), "SOPInstanceUID", path.encode()), sop_instance_uid=path)
        for n, path in enumerate(filter(None, PATHS))
    ]
    outside = everything_outside(tmp_path, node)

    answers = node.send(samples)

    assert refused(samples, answers) == {}
    assert digests(visible(node)) == Counter(sample.sha256 for sample in samples)
    assert everything_outside(tmp_path, node) == outside
    assert all(set(part) <= set("0123456789.abcdefx") | set("dcm") for part in parts_of_names(node))
    files = node.restored(tmp_path / "back")
    assert digests(files) == digests(visible(node))
    assert all(path.resolve().is_relative_to(tmp_path / "back") for path in files)
    assert not list(tmp_path.rglob("*escaped*"))


def everything_outside(folder: Path, node) -> list[str]:
    """Return every path but those of the archive and of the database beside it."""
    ours = (str(archive_of(node)), str(node.home / "index.sqlite"))
    return [name for name in everything_below(folder) if not str(folder / name).startswith(ours)]


def parts_of_names(node) -> set[str]:
    return {part for path in visible(node) for part in path.relative_to(archive_of(node)).parts}


def test_no_patient_in_a_path_or_in_what_the_node_prints(start_node, tmp_path):
    node = start_node(settings={"log": {"level": "DEBUG"}})
    samples = list(ODD.values())
    node.send(samples)
    node.send([dataclasses.replace(sample, sop_instance_uid="1.2.3") for sample in samples[:3]])  # refused: 0xA900
    findscu(node, "STUDY", {"PatientName": "Family*", "PatientID": "PID1", "StudyInstanceUID": ""})
    dcmtk("findscu", "-S", "-k", "QueryRetrieveLevel=NONSENSE", "-k", "PatientID=PID1", *at(node), exit_code=None)
    dcmtk(
        "movescu",
        "-P",
        "-aem",
        "NO",
        "-k",
        "QueryRetrieveLevel=PATIENT",
        "-k",
        "PatientID=PID1",
        *at(node),
        exit_code=None,
    )
    node.restart()
    printed = node.output + node.cli("verify").stdout + node.cli("status", exit_code=1).stdout
    printed += node.cli("restore", "--to", tmp_path / "back", "--all").stdout

    said = {str(value) for sample in samples for value in personal(sample)}
    names = "\n".join(everything_below(node.home) + everything_below(tmp_path / "back"))
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
