"""C-ECHO and C-STORE: every acknowledged image is stored, byte for byte, whatever else happens."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from tests.processes import connects, wait_until
from tests.samples import ct_series, dx, encode, make_study, one_of_each, replace, secondary_capture, uid
from tests.system.contents import (
    assert_index_equals_files,
    digests,
    index_rows,
    private_information,
    staged,
    staged_bytes,
    visible,
)
from tests.system.peers import dcmsend, dcmtk, echoscu, findscu, storescu
from tests.system.raw_sender import Association, AssociationRefusedError, contexts_of

PRIVATE_INFORMATION_CREATOR = "2.25.181995984334273217066454557685840449869.2"


def test_echoscu_is_answered(node):
    echoscu(node)
    echoscu(node, "--repeat", "5")


def test_storescu_and_dcmsend_deliver_a_study(node, tmp_path):
    first = [encode(ds, name=f"{n}.dcm") for n, ds in enumerate(one_of_each("1"))]
    second = [encode(ds, name=f"{n}.dcm") for n, ds in enumerate(one_of_each("2"))]
    for sample in first:
        sample.write(tmp_path / "first" / sample.name)
    for sample in second:
        sample.write(tmp_path / "second" / sample.name)

    storescu(node, tmp_path / "first")
    dcmsend(node, tmp_path / "second")

    sent = sorted(sample.sha256 for sample in [*first, *second])
    assert sorted(digests(visible(node)).elements()) == sent
    assert sorted(digests(node.restored(tmp_path / "back")).elements()) == sent
    assert staged(node) == []


def test_a_stored_file_says_when_and_from_whom_it_came(node):
    sample = encode(dx())
    assert node.send([sample], calling="DR_ROOM1")[0].status == 0

    (path,) = visible(node)
    dumped = dcmtk("dcmdump", "+L", path).stdout
    meta = pydicom.filereader.read_file_meta_info(path)
    said = private_information(path)

    assert meta.SourceApplicationEntityTitle == "DR_ROOM1"
    assert meta.MediaStorageSOPInstanceUID == sample.sop_instance_uid
    assert meta.PrivateInformationCreatorUID == PRIVATE_INFORMATION_CREATOR
    assert "[DR_ROOM1]" in dumped
    assert PRIVATE_INFORMATION_CREATOR in dumped
    assert said["sha256"] == sample.sha256
    assert said["size"] == len(sample.data_set)
    assert (said["service"], said["calling_ae_title"], said["called_ae_title"]) == ("C-STORE", "DR_ROOM1", "BACKUP_SCP")


@pytest.mark.parametrize(
    ("commanded", "what"),
    [
        ({"sop_instance_uid": "1.2.3.4"}, ("1.2.3.4", "1.2.3.5")),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.1"}, ("SOP Class", "1.2.840.10008.5.1.4.1.1.1")),
    ],
    ids=["SOP Instance", "SOP Class"],
)
def test_command_set_and_data_set_must_agree(node, commanded, what):
    sample = encode(dx(SOPInstanceUID="1.2.3.5"))
    lying = dataclasses.replace(sample, **commanded)

    (answer,) = node.send([lying])

    assert answer.status == 0xA900
    assert len(answer.error_comment) <= 64
    assert all(part in answer.error_comment for part in what)
    assert visible(node) == staged(node) == []
    assert index_rows(node) == []
    assert node.send([sample])[0].status == 0


def test_the_association_goes_on_after_a_refusal(node):
    good = encode(dx())
    bad = dataclasses.replace(encode(secondary_capture()), sop_instance_uid="1.2.3.4")

    answers = node.send([bad, good, bad, good])

    assert [answer.status for answer in answers] == [0xA900, 0, 0xA900, 0]
    assert digests(visible(node)) == {good.sha256: 1}


def test_eight_parallel_associations(node):
    studies = [
        [encode(ds) for ds in [dx(study=f"{n}"), *ct_series(6, study=f"{n}"), secondary_capture(study=f"{n}")]]
        for n in range(8)
    ]
    together = threading.Barrier(8)

    def send(samples):
        with Association(node, contexts_of(*samples), calling=f"SENDER{samples[0].sop_instance_uid[-4:]}") as sender:
            together.wait()  # all eight are established now
            return [sender.store(sample).status for sample in samples]

    with ThreadPoolExecutor(8) as pool:
        statuses = [status for answers in pool.map(send, studies) for status in answers]

    held = node.json("status", exit_code=None)["holdings"]
    sent = sorted(sample.sha256 for samples in studies for sample in samples)
    assert statuses == [0] * 64
    assert sorted(digests(visible(node)).elements()) == sent
    assert (held["studies"], held["series"], held["instances"], held["versions"]) == (8, 24, 64, 64)
    counts = findscu(node, "STUDY", {"StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""})
    assert sorted(int(answer.NumberOfStudyRelatedInstances) for answer in counts) == [8] * 8


def test_the_same_bytes_from_two_associations_at_once_are_one_version(node):
    samples = [encode(ds) for ds in ct_series(10)]
    together = threading.Barrier(4)

    def send(calling):
        with Association(node, contexts_of(*samples), calling=calling) as sender:
            answers = []
            for sample in samples:
                half = len(sample.data_set) // 4 * 2
                sender.begin_store(sample)
                sender.send_data(sample, sample.data_set[:half])
                together.wait()  # each instance is under way in every association
                sender.send_data(sample, sample.data_set[half:], last=True)
                answers.append(sender.answer().status)
            return answers

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(send, ["ONE", "TWO", "ONE", "TWO"]))

    held = node.json("status", exit_code=None)["holdings"]
    assert statuses == [[0] * 10] * 4
    assert digests(visible(node)) == dict.fromkeys([sample.sha256 for sample in samples], 1)
    assert (held["instances"], held["versions"], held["flagged"]) == (10, 10, 0)
    wait_until(lambda: staged(node) == [], what="the checkpoint")  # of those that came second
    node.cli("verify")


# ------------------------------------------------------------------------------------------------------------- stopping


def test_an_instance_under_way_at_sigterm_is_finished_and_acknowledged(node):
    under_way, never = encode(replace(dx(number=1), PixelData=bytes(1_000_000))), encode(dx(number=2))
    half = len(under_way.data_set) // 4 * 2
    sender = Association(node, contexts_of(under_way))
    sender.begin_store(under_way)
    sender.send_data(under_way, under_way.data_set[:half])
    wait_until(lambda: staged_bytes(node), what="half an instance in staging")

    node.process.signal(signal.SIGTERM)
    wait_until(lambda: not connects(node.port), what="the node taking no more connections")
    sender.send_data(under_way, under_way.data_set[half:], last=True)
    answer = sender.answer()

    assert answer.status == 0
    with pytest.raises(ConnectionError):
        sender.store(never)
    sender.abort()
    node.stop()
    node.start()
    assert digests(visible(node)) == {under_way.sha256: 1}
    assert [row["SOPInstanceUID"] for row in index_rows(node)] == [under_way.sop_instance_uid]
    assert staged(node) == []


def test_an_idle_association_does_not_hold_up_the_end(node):
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            sender = Association(node)
            stack.callback(sender.abort)
            assert sender.echo() == 0

        assert node.process.terminate(15) == 0


def test_the_last_acknowledged_instance_is_there_after_the_end(start_node, tmp_path):
    """A sender that goes on and on: SIGTERM comes wherever it comes; each success is kept, each kept was answered."""
    node = start_node()
    samples = [encode(ds) for ds in ct_series(400)]
    acknowledged: list[str] = []

    def send():
        with contextlib.suppress(ConnectionError), Association(node, contexts_of(*samples)) as sender:
            acknowledged.extend(sample.sha256 for sample in samples if sender.store(sample).status == 0)

    sending = threading.Thread(target=send)
    sending.start()
    wait_until(lambda: len(acknowledged) >= 10)
    node.stop()
    sending.join(30)

    assert digests(visible(node)) == dict.fromkeys(acknowledged, 1)
    assert len(acknowledged) < len(samples)
    assert len(index_rows(node)) == len(acknowledged)


# ------------------------------------------------------------------------------------------------------------ full disk


@pytest.fixture
def small_volume(tmp_path):
    """Yield a folder on a volume of 6 MB, mounted for this test alone."""
    folder = tmp_path / "volume"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=6m", "backup-scp-test", str(folder)]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs root to mount a small volume: {tried.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path, *, leave: int = 0) -> Path:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while shutil.disk_usage(path.parent).free > leave:
            file.write(bytes(4096))
    return path


def test_a_full_disk_refuses_and_recovers_without_a_restart(make_node, small_volume):
    node = make_node(settings={"archive": {"url": str(small_volume / "archive"), "reserve_mb": 0}})
    node.start()
    held, refused = encode(dx(number=1)), encode(dx(number=2))
    assert node.send([held])[0].status == 0
    filler = fill(small_volume / "filler")

    answers = node.send([refused, held, refused])

    assert [answer.status for answer in answers] == [0xA700, 0, 0xA700]  # what is held needs no room, when it is short
    assert all("full" in answer.error_comment or "room" in answer.error_comment for answer in answers[::2])
    assert digests(visible(node)) == {held.sha256: 1}
    assert node.echo()
    assert len(findscu(node, "STUDY", {"StudyInstanceUID": ""})) == 1

    filler.unlink()
    assert node.send([refused])[0].status == 0
    assert digests(visible(node)) == dict.fromkeys([held.sha256, refused.sha256], 1)
    assert staged(node) == []


def test_a_disk_that_fills_up_in_the_middle_of_an_instance(make_node, small_volume):
    node = make_node(settings={"archive": {"url": str(small_volume / "archive"), "reserve_mb": 0}})
    node.start()
    small = encode(dx())
    large = encode(replace(dx(number=2), PixelData=bytes(12_000_000)))

    with Association(node, contexts_of(large)) as sender:
        answers = [sender.store(large), sender.store(small)]

    assert [answer.status for answer in answers] == [0xA700, 0]
    assert answers[0].error_comment
    assert digests(visible(node)) == {small.sha256: 1}
    assert staged(node) == []


def test_the_node_starts_on_a_full_disk(make_node, small_volume):
    node = make_node(settings={"archive": {"url": str(small_volume / "archive"), "reserve_mb": 0}})
    filler = fill(small_volume / "filler")

    node.start()

    assert node.send([encode(dx())])[0].status == 0xA700
    filler.unlink()
    assert node.send([encode(dx())])[0].status == 0


# ----------------------------------------------------------------------------------------------------------- PostgreSQL


def test_postgresql_as_the_index(make_node, postgres_url, tmp_path):
    node = make_node(settings={"index": {"url": postgres_url}})
    told = node.cli("status", exit_code=1)
    assert "db upgrade" in told.stdout
    node.cli("db", "upgrade")
    node.cli("db", "upgrade")  # a second time does no harm
    node.start()

    storescu(node, *make_study(tmp_path / "study", patients=2, studies=2, instances=3))
    other = encode(dx(study="1.1", InstanceNumber="77"))
    assert node.send([other], calling="ANOTHER")[0].status == 0

    found = findscu(node, "STUDY", {"PatientID": "PID2", "StudyInstanceUID": ""})
    restored = node.restored(tmp_path / "back")
    assert {answer.StudyInstanceUID for answer in found} == {uid("2.1"), uid("2.2")}
    assert digests(restored) == digests(visible(node))
    assert len(restored) == 13
    assert not (node.home / "index.sqlite").exists()
    assert node.json("status", exit_code=None)["remarks"][0]["flags"] == ["clash"]
    node.restart()
    assert len(findscu(node, "STUDY", {"StudyInstanceUID": ""})) == 4
    node.stop()
    assert_index_equals_files(node)


# --------------------------------------------------------------------------------------------------- who is turned away


def test_another_called_ae_title_is_rejected_and_shown(node):
    with pytest.raises(AssociationRefusedError):
        Association(dataclasses.replace(node.remote, ae_title="OTHER"), calling="CONSOLE")

    (rejection,) = node.json("status", exit_code=None)["rejections"]
    assert (rejection["calling_ae_title"], rejection["called_ae_title"]) == ("CONSOLE", "OTHER")
    assert "BACKUP_SCP" in rejection["fix"]
