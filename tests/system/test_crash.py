"""kill -9 of node and sender at any moment: no acknowledged image is lost, no incomplete one is visible."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import Process, wait_until
from tests.samples import ct_series, dx, encode, replace
from tests.system.contents import (
    STAGING,
    archive_of,
    assert_index_equals_files,
    digests,
    notes,
    staged,
    staged_bytes,
    visible,
)
from tests.system.peers import findscu, require
from tests.system.raw_sender import Association, AssociationRefusedError, contexts_of

VERIFY = [("1.2.840.10008.1.1", ["1.2.840.10008.1.2"])]


def half_sent(node, sample) -> Association:
    """Return an association with half of an instance on the disk of the node."""
    sender = when_free(node, contexts_of(sample))
    half = len(sample.data_set) // 4 * 2
    before = staged_bytes(node)
    sender.begin_store(sample)
    sender.send_data(sample, sample.data_set[:half])
    wait_until(lambda: staged_bytes(node) >= before + half, what="half an instance in staging")
    return sender


def when_free(node, contexts=VERIFY) -> Association:
    """Return an association, as soon as those that are ending have left a place for it."""
    admitted: list[Association] = []

    def ask() -> list[Association]:
        with contextlib.suppress(AssociationRefusedError):
            admitted.append(Association(node, contexts))
        return admitted

    return wait_until(ask, what="a free place")[0]


def uids(node) -> set[str]:
    """Return what C-FIND answers."""
    return {answer.SOPInstanceUID for answer in findscu(node, "IMAGE", {"SOPInstanceUID": ""})}


# --------------------------------------------------------------------------------------------- the node in mid-transfer


def test_a_killed_node_shows_nothing_half_written(node):
    kept, under_way = encode(dx(number=1)), encode(replace(dx(number=2), PixelData=bytes(1_000_000)))
    assert node.send([kept])[0].status == 0
    senders = [half_sent(node, under_way) for _ in range(3)]

    node.kill()

    assert digests(visible(node)) == {kept.sha256: 1}
    assert len(staged(node)) == 3
    for sender in senders:
        with pytest.raises(ConnectionError):
            sender.answer()
        sender.reset()

    node.start()
    assert staged(node) == []
    assert len([path for path in (archive_of(node) / STAGING).iterdir() if path.is_dir()]) <= 1  # its own
    assert digests(visible(node)) == {kept.sha256: 1}
    assert uids(node) == {kept.sop_instance_uid}

    assert node.send([under_way])[0].status == 0
    assert digests(visible(node)) == dict.fromkeys([kept.sha256, under_way.sha256], 1)


def test_kills_at_random_moments_lose_nothing_that_was_acknowledged(node):
    """Four senders at once; the node is killed when a random number of their instances has been answered."""
    chance = random.Random(20240131)
    samples = [encode(ds) for ds in ct_series(400)]
    acknowledged: set[str] = set()
    for _ in range(4):
        left = [sample for sample in samples if sample.sha256 not in acknowledged]
        enough = len(acknowledged) + chance.randint(0, 40)
        store_until(node, left, acknowledged, enough)
        node.kill()

        node.start()  # which enters what lies between file and row
        held = digests(visible(node))
        assert acknowledged <= set(held)
        assert set(held.values()) <= {1}
        assert len(uids(node)) == len(held)
        assert staged(node) == []
    node.stop()
    assert_index_equals_files(node)
    assert acknowledged


def store_until(node, samples, acknowledged: set[str], enough: int) -> None:
    """Send the samples over four associations; return in the midst of it, when enough are acknowledged."""

    def send(mine) -> None:
        with contextlib.suppress(ConnectionError), Association(node, contexts_of(*mine)) as sender:
            for sample in mine:
                if sender.store(sample).status == 0:
                    acknowledged.add(sample.sha256)

    pool = ThreadPoolExecutor(4)
    for part in range(4):
        pool.submit(send, samples[part::4])
    wait_until(lambda: len(acknowledged) >= enough, what=f"{enough} acknowledged")
    threading.Thread(target=pool.shutdown).start()


# ----------------------------------------------------------------------------------------- the node, at any system call


# What keeps a Data Set: its bytes, its name, its row, and then the checkpoint with the end of its note; with how many
# of these calls to pass over from one round to the next (SQLite writes some forty pages).
KEEPING = {
    "bytes": ("fsync,fdatasync", 1),
    "name": ("link,linkat,rename,renameat,renameat2", 1),
    "row": ("pwrite64", 7),
    "files in their places": ("syncfs", 1),
    "note": ("unlink,unlinkat", 1),
}


@pytest.fixture
def killed_at(tmp_path):
    """Return `killed_at(node, calls, number)`: a tracer that kills the node as a thread enters its n-th such call."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    if not may_trace():
        pytest.skip("needs the right to trace another process: root, or kernel.yama.ptrace_scope = 0")

    def attach(node, calls: str, number: int) -> Process:
        name = f"{calls.partition(',')[0]}{number}"
        inject = f"inject={calls}:signal=KILL:when={number}"
        argv = [program, "-f", "-p", str(node.pid), "-o", str(tmp_path / f"{name}.calls"), "-e", f"trace={calls}"]
        tracer = Process([*argv, "-e", inject], tmp_path / f"{name}.log")
        tracer.launch(lambda: "attached" in tracer.output)
        return tracer

    return attach


def may_trace() -> bool:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return os.geteuid() == 0 or not scope.exists() or scope.read_text().strip() == "0"


@pytest.mark.timeout(300)
def test_a_kill_at_any_call_that_keeps_an_instance(node, killed_at):
    """Each round sends a new instance and kills some calls later than the round before, until one comes through."""
    samples = (encode(ds) for ds in ct_series(100))
    first = next(samples)
    assert is_acknowledged(node, first)  # so that the folders of the process and of the series are there
    acknowledged = [first.sha256]
    for calls, step in KEEPING.values():
        kills = itertools.count()
        while not survives(node, sample := next(samples), killed_at(node, calls, 1 + step * next(kills)), acknowledged):
            node.start()
            assert staged(node) == []
            assert len(uids(node)) == len(visible(node))
            assert set(acknowledged) <= set(digests(visible(node)))
            assert is_acknowledged(node, sample)  # the sender, who heard nothing, sends it again
            acknowledged.append(sample.sha256)
        assert next(kills) > 1, f"nothing was kept by {calls}"
    node.stop()

    assert digests(visible(node)) == dict.fromkeys(acknowledged, 1)
    assert_index_equals_files(node)


def survives(node, sample, tracer: Process, acknowledged: list[str]) -> bool:
    """Send an instance to a node that is traced; return whether the node lives after the checkpoint."""
    if is_acknowledged(node, sample):
        acknowledged.append(sample.sha256)
        wait_until(lambda: not node.process.running or not notes(node), what="the checkpoint")
        if node.process.running:
            tracer.kill()
            return True
    node.process.wait()
    tracer.wait()
    tracer.kill()  # both are dead; this says that the test meant it
    node.kill()
    return False


def is_acknowledged(node, sample) -> bool:
    try:
        return node.send([sample])[0].status == 0
    except ConnectionError:
        return False


# ------------------------------------------------------------------------------------------- the sender in mid-transfer


PLACES = 3


@pytest.fixture
def small_node(start_node):
    """Return a node that takes three associations at one time."""
    return start_node(settings={"node": {"maximum_associations": PLACES, "reserved_associations": 0}})


def assert_as_if_nothing_had_come(node, sample) -> None:
    wait_until(lambda: staged(node) == [], what="the staged file being discarded")
    assert visible(node) == []
    wait_until(lambda: all_places_are_free(node), what="the places of dead associations being free")
    with when_free(node, contexts_of(sample)) as sender:
        assert sender.store(sample).status == 0
    assert digests(visible(node)) == {sample.sha256: 1}


def all_places_are_free(node) -> bool:
    with contextlib.suppress(AssociationRefusedError), contextlib.ExitStack() as stack:
        return all(stack.enter_context(Association(node)).echo() == 0 for _ in range(PLACES))
    return False


def test_a_small_node_takes_no_more_than_it_says(small_node):
    with contextlib.ExitStack() as stack:
        for _ in range(PLACES):
            stack.enter_context(when_free(small_node))
        with pytest.raises(AssociationRefusedError):
            Association(small_node)

    wait_until(lambda: all_places_are_free(small_node), what="the places being free again")


@pytest.mark.parametrize("end", ["abort", "reset"])
def test_a_sender_that_ends_in_mid_transfer(small_node, end):
    sample = encode(replace(dx(), PixelData=bytes(1_000_000)))
    for sender in [half_sent(small_node, sample) for _ in range(PLACES)]:
        getattr(sender, end)()

    assert_as_if_nothing_had_come(small_node, sample)


def test_a_sender_that_closes_its_connection_in_mid_transfer(small_node):
    sample = encode(replace(dx(), PixelData=bytes(1_000_000)))
    for sender in [half_sent(small_node, sample) for _ in range(PLACES)]:
        sender.socket.close()

    assert_as_if_nothing_had_come(small_node, sample)


def test_a_sender_that_says_nothing_more_in_mid_transfer(start_node):
    """A cut cable: no FIN, no reset.  `network_timeout_s` ends it."""
    node = start_node(
        settings={"node": {"maximum_associations": PLACES, "reserved_associations": 0, "network_timeout_s": 1}}
    )
    sample = encode(replace(dx(), PixelData=bytes(1_000_000)))
    silent = [half_sent(node, sample) for _ in range(PLACES)]

    assert_as_if_nothing_had_come(node, sample)
    for sender in silent:
        sender.reset()


def test_a_killed_storescu(small_node, tmp_path):
    sample = encode(replace(dx(), Rows=10000, Columns=10000, PixelData=bytes(200_000_000)))
    path = sample.write(tmp_path / "large.dcm")
    argv = [require("storescu"), "-aec", small_node.ae_title, small_node.host, str(small_node.port), str(path)]
    for number in range(PLACES):
        storescu = Process(argv, tmp_path / f"storescu{number}.log")
        storescu.launch(lambda: staged_bytes(small_node) > 1_000_000)
        storescu.kill()
        assert storescu.wait() == -9, "it had ended before it was killed"
    path.unlink()

    assert_as_if_nothing_had_come(small_node, encode(dx()))
