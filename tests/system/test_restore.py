"""backup-scp restore to a folder and to a remote AE: filtered, interrupted, refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage

from tests.processes import Process, free_port, wait_until
from tests.samples import ct_series, data_set_bytes, dx, encode, uid
from tests.system.contents import damage, stored_file
from tests.system.node import Remote, assert_one_sentence
from tests.system.pynetdicom_peers import NATIVE, Sink

CT = str(CTImageStorage)


@pytest.fixture
def filled(make_node):
    """Return a node, not started, that holds four studies of two patients."""
    node = make_node()
    node.start()
    samples = {
        "january": encode(dx(study="january", StudyDate="20240110")),
        "february": encode(dx(study="february", StudyDate="20240210")),
        "other": encode(dx(study="other", StudyDate="20240310", PatientID="PID2")),
        "undated": encode(dx(study="undated", StudyDate="")),
    }
    node.send(samples.values())
    node.stop()
    return node, samples


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--all"], ["january", "february", "other", "undated"]),
        (["--study", uid("january")], ["january"]),
        (["--patient-id", "PID2"], ["other"]),
        (["--since", "2024-02-10"], ["february", "other"]),
        (["--until", "20240209"], ["january"]),
        (["--since", "20240201", "--until", "20240228"], ["february"]),
        (["--since", "20240201", "--patient-id", "PID1"], ["february"]),
        (["--patient-id", "PID1", "--patient-id", "PID2"], ["january", "february", "other", "undated"]),
        (["--patient-id", "PID?", "--until", "2024-02-01"], ["january"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_restore_filters(filled, tmp_path, options, expected):
    node, samples = filled

    files = node.restored(tmp_path / "out", *options)

    assert sorted(map(data_set_bytes, files)) == sorted(samples[name].data_set for name in expected)


def test_restore_wants_to_know_what_and_where(filled):
    node, _ = filled

    for wrong, words in {
        ("--to", "./out"): ["--all"],
        ("--to", "./out", "--all", "--patient-id", "PID1"): ["--all"],
        ("--to", "out", "--all"): ["./out"],
    }.items():
        assert_one_sentence(node.cli("restore", *wrong, exit_code=1), *words)
    assert "/no/such/drive" in node.cli("restore", "--to", "/no/such/drive/out", "--all", exit_code=1).stdout


def test_restore_of_one_version_and_of_all(make_node, tmp_path):
    node = make_node()
    node.start()
    first, second = encode(dx(StudyDescription="First")), encode(dx(StudyDescription="Second"))
    node.send([first, second])

    one = node.restored(tmp_path / "one", "--all")
    both = node.restored(tmp_path / "both", "--all", "--versions", "all")

    assert [data_set_bytes(path) for path in one] == [second.data_set]
    assert sorted(data_set_bytes(path) for path in both) == sorted([first.data_set, second.data_set])


def test_restore_to_a_folder_goes_on_where_it_was_killed(start_node, processes, tmp_path):
    node = start_node()
    samples = [encode(ds) for ds in ct_series(12)]
    node.send(samples)
    out = tmp_path / "out"

    def restored() -> list[Path]:
        return [path for path in out.rglob("*.dcm") if not path.name.startswith(".")]

    slow = node._argv("restore", "--to", str(out), "--all", "--throttle", "0.005")
    process = Process(slow, tmp_path / "restore.log", node.env)
    processes.add(process)
    process.launch(lambda: len(restored()) >= 3)
    process.kill()
    interrupted = len(restored())
    done = node.json("restore", "--to", out, "--all")

    assert 3 <= interrupted < 12
    assert (done["sent"], done["already_there"], done["failed"]) == (12, interrupted, [])
    assert sorted(map(data_set_bytes, restored())) == sorted(sample.data_set for sample in samples)
    assert sorted(path for path in out.rglob("*") if path.is_file()) == sorted(restored())


def test_restore_to_an_ae_goes_on_where_it_was_killed(start_node, processes, tmp_path):
    """The destination confirms three and keeps the fourth waiting; the next run sends the rest, and only that."""
    samples = [encode(ds) for ds in ct_series(6)]
    ended = threading.Event()
    waiting = threading.Event()

    def answer(_) -> int:
        if len(sink.stored) == 3 and not ended.is_set():
            waiting.set()
            ended.wait(60)
        return 0

    with Sink({CT: NATIVE}, answer) as sink:
        node = start_node(remotes=[sink.remote])
        node.send(samples)
        process = Process(node._argv("restore", "--to", "sink", "--all"), tmp_path / "restore.log", node.env)
        processes.add(process)
        process.launch(waiting.is_set)
        process.kill()
        ended.set()
        wait_until(lambda: len(sink.stored) == 4, what="the association of the killed restore being over")
        resumed = node.json("restore", "--to", "sink", "--all")
        again = node.json("restore", "--to", "SINK", "--all")

    assert (resumed["confirmed_before"], resumed["sent"], resumed["failed"]) == (3, 3, [])
    assert (again["confirmed_before"], again["sent"]) == (6, 0)
    assert len(sink.stored) == 7
    assert {stored.data_set for stored in sink.stored} == {sample.data_set for sample in samples}
    assert {stored.calling_ae_title for stored in sink.stored} == {"BACKUP_SCP"}
    assert {stored.move_originator for stored in sink.stored} == {""}


def test_restore_sends_the_newest_study_first_and_again_when_told_to(filled):
    node, samples = filled
    with Sink({samples["january"].sop_class_uid: NATIVE}) as sink:
        node.remotes = [sink.remote]
        node.write_settings()
        node.json("restore", "--to", "sink", "--all")
        node.json("restore", "--to", "sink", "--all", "--again")

    newest_first = [samples[name].sop_instance_uid for name in ("other", "february", "january", "undated")]
    assert [stored.sop_instance_uid for stored in sink.stored] == newest_first * 2


def test_restore_that_fails_in_part_names_what_and_ends_with_1(start_node):
    fine, refused, damaged = (encode(ds) for ds in ct_series(3))
    refuse = {refused.sop_instance_uid: 0xA700}
    with Sink({CT: NATIVE}, lambda stored: refuse.get(stored.sop_instance_uid, 0)) as sink:
        node = start_node(remotes=[sink.remote])
        node.send([fine, refused, damaged])
        damage(stored_file(node, damaged), "flip")

        done = node.json("restore", "--to", "sink", "--all", exit_code=1)
        refuse.clear()
        node.send([damaged])
        rest = node.json("restore", "--to", "sink", "--all")

    assert (done["sent"], done["confirmed_before"]) == (1, 0)
    assert {row["sop_instance_uid"] for row in done["failed"]} == {refused.sop_instance_uid, damaged.sop_instance_uid}
    assert (rest["sent"], rest["confirmed_before"], rest["failed"]) == (2, 1, [])


def test_restore_to_an_ae_that_is_down(filled):
    node, _ = filled
    node.remotes = [Remote("down", "DOWN", free_port())]
    node.write_settings()

    done = node.json("restore", "--to", "down", "--all", "--wait", "0", exit_code=1)
    assert "DOWN" in done["stopped"]
    assert (done["sent"], done["not_tried"], done["missing_images"], done["complete"]) == (0, 4, 4, False)
