"""No caller blocks the others: rejected ones, those with huge requests, and slow readers."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage

from backup_scp.dimse.association import server as server_module
from backup_scp.dimse.association.listener import ListenSettings
from backup_scp.dimse.messages.commitment_data_sets import action_information
from backup_scp.ports import Reference
from tests.dimse import wire
from tests.dimse.wire import ASSOCIATE_RJ, Elements, Peer, associate_rq, item, pdu
from tests.processes import ROOT, wait_until
from tests.samples import ct_series, encode
from tests.system import raw_sender
from tests.system.commitments import WELL_KNOWN_INSTANCE
from tests.system.network_namespace import OtherMachine
from tests.system.node import Node

MB = 1_000_000
IMPLICIT = "1.2.840.10008.1.2"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
ECHO = ("1.2.840.10008.1.1", (IMPLICIT,))
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CT = str(CTImageStorage)
N_ACTION_RQ = 0x0130
RESOURCE_LIMITATION, INVALID_ARGUMENT_VALUE = 0x0213, 0x0115
CALLERS, CALLS = 8, 400
MOST_THREADS = server_module._most_threads(ListenSettings("", "", 0)) + 16  # these are no callers'


def thread_count(node: Node) -> int:
    return len(list(Path(f"/proc/{node.pid}/task").iterdir()))


@contextlib.contextmanager
def growing_little(node: Node) -> Iterator[None]:
    """In the block the node takes 64 MB more at most, and never has more threads than it may.

    Threads of callers that are gone may wait for a slow machine; they once were thousands.
    """
    assert raw_sender.echo(node)
    before, threads, done = node.peak_memory_bytes(), [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            threads.append(thread_count(node))
            done.wait(0.01)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
    assert max(threads) < MOST_THREADS
    assert node.peak_memory_bytes() - before <= 64 * MB


@contextlib.contextmanager
def meanwhile(work: Callable[[], object], callers: int = CALLERS, calls: int = CALLS) -> Iterator[list[object]]:
    """Do something again and again beside the block, so many times at most."""
    done, results = threading.Event(), []

    def run() -> None:
        for _ in range(calls):
            if done.is_set():
                return
            results.append(work())

    with ThreadPoolExecutor(callers) as pool:
        running = [pool.submit(run) for _ in range(callers)]
        wait_until(lambda: len(results) > callers)
        try:
            yield results
        finally:
            done.set()
            for each in running:
                each.result()


def rejected(node: Node) -> int:
    with Peer(node.port) as peer:
        return peer.ask(associate_rq([ECHO], called=b"NOT_US", calling=b"IMPATIENT"))[0]


def test_images_are_stored_beside_callers_that_are_rejected(node):
    samples = [encode(ds) for ds in ct_series(30)]
    with growing_little(node), meanwhile(lambda: rejected(node)) as answers:
        for sample in samples:
            assert node.send([sample])[0].status == 0
    assert set(answers) == {ASSOCIATE_RJ}

    def noted():
        (found,) = node.json("status", exit_code=None)["rejections"]
        return found if found["count"] == len(answers) else None

    found = wait_until(noted, what="each rejection in status")
    assert (found["service"], found["calling_ae_title"], found["called_ae_title"]) == (
        "association",
        "IMPATIENT",
        "NOT_US",
    )
    assert node.output.count("'IMPATIENT' at 127.0.0.1 rejected") < len(answers) / 10  # nor does its log fill the disk


def test_a_rejection_is_forgotten_when_its_caller_succeeds(node):
    assert rejected(node) == ASSOCIATE_RJ
    wait_until(lambda: node.json("status", exit_code=None)["rejections"])
    assert raw_sender.echo(node, calling="IMPATIENT")
    wait_until(lambda: not node.json("status", exit_code=None)["rejections"])


def test_what_was_rejected_last_is_written_when_the_node_stops(node):
    for _ in range(7):
        assert rejected(node) == ASSOCIATE_RJ
    node.stop()
    (found,) = node.json("status", exit_code=None)["rejections"]
    assert found["count"] == 7


def test_refused_images_are_one_line_with_the_reason_and_the_fix_until_all_are_taken(node):
    """Their Command Sets name other instances than they do."""
    samples = [encode(ds) for ds in ct_series(5)]
    wrong = [dataclasses.replace(sample, sop_instance_uid=f"{sample.sop_instance_uid}.9") for sample in samples]
    answers = node.send([*wrong, samples[0]], calling="CONSOLE")
    assert [answer.status for answer in answers] == [*[0xA900] * 5, 0]

    def noted():
        return [found for found in node.json("status", exit_code=None)["rejections"] if found["count"] == 5]

    (found,) = wait_until(noted)
    assert (found["service"], found["calling_ae_title"]) == ("store", "CONSOLE")
    assert found["reason"].startswith("SOP Instance UID: Command Set")
    assert found["fix"]
    assert [answer.status for answer in node.send(samples, calling="CONSOLE")] == [0] * 5
    wait_until(lambda: not node.json("status", exit_code=None)["rejections"])


def test_crafted_association_requests_leave_nothing_in_memory(node):
    head = struct.pack(">HH", 1, 0) + b"BACKUP_SCP".ljust(16) + b"STRANGER".ljust(16) + bytes(32)
    head += item(0x10, b"1.2.840.10008.3.1.1.1")
    numbers = iter(range(1_000_000))

    def call() -> int:
        contexts = (
            item(0x20, bytes((2 * n + 1, 0, 0, 0)) + item(0x30, b"%d." % next(numbers) * 8000) + item(0x40, b"1.2"))
            for n in range(3)
        )
        with Peer(node.port) as peer:
            return peer.ask(pdu(1, head + b"".join(contexts) + item(0x50, item(0x51, bytes(4)))))[0]

    with growing_little(node), meanwhile(call, calls=50) as answers:
        assert raw_sender.echo(node)
        wait_until(lambda: len(answers) == 50 * CALLERS)


@pytest.fixture
def stranger():
    machine = OtherMachine()
    machine.connect()
    yield machine
    machine.disconnect()


@dataclasses.dataclass(frozen=True)
class At:
    """The node, called at one of this machine's addresses."""

    host: str
    port: int
    ae_title: str = "BACKUP_SCP"


def commit(node: At, number: int, references: int) -> int:
    """Request a commitment of instances that are not stored; return the Status."""
    pairs = [Reference(CT, f"1.2.826.0.1.3680043.10.9999.{reference}") for reference in range(references)]
    data = action_information(f"1.2.{number}", pairs, IMPLICIT)
    elements: Elements = {
        0x0003: STORAGE_COMMITMENT,
        0x0100: N_ACTION_RQ,
        0x0800: 1,
        0x1001: WELL_KNOWN_INSTANCE,
        0x1008: 1,
    }
    with raw_sender.Association(node, [(STORAGE_COMMITMENT, (IMPLICIT,))], calling="STRANGER") as association:
        association._send_command(1, elements)
        for start in range(0, len(data), association.fragment):
            part = data[start : start + association.fragment]
            association._send_fragment(1, 2 * (start + len(part) == len(data)), part)
        return association.answer().status


def test_commitments_that_strangers_ask_for_take_little(make_node, stranger):
    """Requests with too many references are refused, and most of those that come at once; no other caller waits."""
    node = make_node(settings={"node": {"host": "0.0.0.0"}})
    node.start()
    numbers = iter(range(1_000_000))
    called = At(stranger.our_address, node.port)
    with growing_little(node):
        with stranger.there(), meanwhile(lambda: commit(called, next(numbers), 10_000), callers=12, calls=4) as answers:
            assert raw_sender.echo(called)
            wait_until(lambda: len(answers) == 48)
        with stranger.there():
            assert commit(called, next(numbers), 10_001) == INVALID_ARGUMENT_VALUE
    assert set(answers) <= {0, RESOURCE_LIMITATION}
    assert 0 in answers
    assert answers.count(0) <= 5  # 50,000 references may be open at its address


def test_who_reads_answers_slowly_keeps_no_transaction_open(make_node):
    """While it reads the index's log can be shortened, and memory does not grow with what it has not taken."""
    node = make_node()
    url = f"sqlite:///{node.home}/index.sqlite"
    subprocess.run([sys.executable, "-m", "benchmarks.fill_index", url, "--studies", "8000"], check=True, cwd=ROOT)
    node.start()
    shortened: list[bool] = []

    def is_shortened() -> bool:
        assert reader.socket.recv(16384)
        with contextlib.closing(sqlite3.connect(node.home / "index.sqlite", isolation_level=None)) as other:
            other.execute("UPDATE study SET study_id = 'changed' WHERE id = 1")
            busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        shortened.append(not busy)
        return shortened[-1]

    with growing_little(node):
        reader = raw_sender.Association(node, [(STUDY_ROOT_FIND, (IMPLICIT,))])
        reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        ask_for_every_image(reader)
        wait_until(is_shortened, 60, what="the index's log is shortened")
        reader.reset()
    assert shortened.count(False) > 0


def ask_for_every_image(reader: raw_sender.Association) -> None:
    identifier = pydicom.Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDescription", "SeriesInstanceUID"):
        setattr(identifier, keyword, "")
    for keyword in ("SOPInstanceUID", "SOPClassUID", "InstitutionName", "SeriesDescription", "ImageType"):
        setattr(identifier, keyword, "")
    elements: Elements = {0x0002: STUDY_ROOT_FIND, 0x0100: raw_sender.C_FIND_RQ, 0x0700: 0, 0x0800: 1}
    reader._send_command(1, elements)
    reader._send_fragment(1, 2, wire.encoded(identifier, IMPLICIT))


def test_threads_of_callers_take_short_turns(make_node, tmp_path):
    """Python's 5 ms would keep a C-ECHO waiting for seconds beside callers that keep their threads busy."""
    said = "import atexit, sys; atexit.register(lambda: print('turns of', sys.getswitchinterval(), flush=True))"
    (tmp_path / "sitecustomize.py").write_text(said)
    node = make_node(env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    node.start()
    node.stop()
    assert "turns of 0.0005\n" in node.output
