"""Every system call may fail: the n-th of each kind, for n = 1, 2, 3 ... until a run has no such call.

The sender hears 0x0000 only of what can be found and given back; the node goes on, and takes the instance when it is
sent again.  BACKUP_SCP_TEST_FAULTS=all meets every call with every error, else each call with one of them.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.samples import Sample, ct_series, dx, encode, replace, uid
from tests.system.contents import (
    assert_index_equals_files,
    damage,
    digests,
    left_by_a_crash,
    notes,
    staged,
    stored_file,
    visible,
)
from tests.system.failing_calls import ERRORS, KILL, Fault, calls_of, failing, require_strace
from tests.system.intake_journal import use_journal
from tests.system.pynetdicom_peers import Sink, find, move
from tests.system.raw_sender import Answer, Association, AssociationRefusedError, contexts_of

ALL = os.environ.get("BACKUP_SCP_TEST_FAULTS") == "all"
OUT_OF_RESOURCES = 0xA700
EVERY_FSYNC = Fault("fsync", "EIO", 0)  # of files and folders: SQLite calls fdatasync


class Sending:
    """A node, what it has acknowledged, and further instances for it."""

    def __init__(self, node, sink: Sink, folder) -> None:
        self.node, self._sink, self._folder = node, sink, folder
        self._numbers = itertools.count(1)
        self._slice = ct_series(1, study="known")[0]
        self.acknowledged: dict[str, Sample] = {}

    def a_new_study(self) -> Sample:
        return encode(dx(study=f"new.{next(self._numbers)}"))

    def a_large_image(self) -> Sample:
        """Return one that the journal does not take: its own file is flushed."""
        return encode(replace(dx(study=f"large.{next(self._numbers)}"), PixelData=bytes(2_000_000)))

    def a_further_instance(self) -> Sample:
        number = next(self._numbers)
        return encode(replace(self._slice, SOPInstanceUID=uid("slice", number), InstanceNumber=number))

    def another_version(self) -> Sample:
        return encode(dx(study="known", SeriesDescription=f"version {next(self._numbers)}"))

    def what_is_damaged(self) -> Sample:
        """A re-send renames the damaged file and replaces it: the only renames of a C-STORE."""
        sample = self.a_new_study()
        assert self.send(sample)
        damage(stored_file(self.node, sample), "flip")
        return sample

    def use_journal(self) -> None:
        self.acknowledged |= {sample.sha256: sample for sample in use_journal(self.node)}

    def send(self, sample: Sample) -> Answer | None:
        """Return the answer; None where the connection ended in its place."""
        try:
            (answer,) = self.node.send([sample])
        except ConnectionError:
            return None
        if answer.status == 0:
            self.acknowledged[sample.sha256] = sample
        return answer

    def look_up(self, fault: Fault, sample: Sample) -> bool:
        """Send an instance while a call fails; return whether that call was made."""
        if "journal" in fault.calls:
            self.use_journal()
        with failing(self.node, fault, self._folder) as traced:
            answer = self.send(sample)
            if answer is None:
                assert fault.error == KILL, fault
                self.node.process.wait()
        if answer is None:
            self.node.start()
            assert staged(self.node) == [], fault
        elif answer.status:
            assert answer.status == OUT_OF_RESOURCES or answer.status >> 12 == 0xC, (fault, answer)
            assert answer.error_comment, fault
        else:
            assert not traced.hurt, fault
            self.assert_held(sample, fault)
        assert self.node.echo(), fault
        if answer is None or answer.status:
            before = [held for held in self.acknowledged.values() if held is not sample][-1]
            self.assert_held(before, fault, or_else=sample if answer is None else None)
        again = self.send(sample)
        assert again is not None, fault
        assert again.status == 0, (fault, again)
        self.assert_held(sample, fault)
        return answer is None or traced.was_met

    def assert_held(self, sample: Sample, why: object, *, or_else: Sample | None = None) -> None:
        """C-FIND finds it, and C-MOVE gives its bytes back.

        Or those of the version that was kept whole, and not answered any more, when the node was killed.
        """
        keys = {"SOPInstanceUID": sample.sop_instance_uid}
        assert len(find(self.node, "IMAGE", keys).matches) == 1, why
        before = len(self._sink.stored)
        final = move(self.node, "SINK", "IMAGE", keys)[-1]
        assert (final.status, final.completed) == (0, 1), (why, final)
        (came,) = self._sink.stored[before:]
        assert came.data_set in {one.data_set for one in (sample, or_else) if one}, why

    def assert_nothing_was_lost(self) -> None:
        """Everything acknowledged is found intact, and nothing else, before and after a restart."""
        self.node.cli("verify")
        self.node.restart()
        assert staged(self.node) == []
        self.node.stop()
        assert digests(visible(self.node)) == dict.fromkeys(self.acknowledged, 1)
        assert_index_equals_files(self.node)


@pytest.fixture
def sending(start_node, tmp_path) -> Iterator[Sending]:
    require_strace()
    known = [encode(dx()), encode(ct_series(1)[0])]
    accepts = {sample.sop_class_uid: [sample.transfer_syntax_uid] for sample in known}
    with Sink(accepts) as sink:
        quiet = {"verify": {"full_pass_days": 0}}  # it opens files too, a minute after the start
        sending = Sending(start_node(remotes=[sink.remote], settings=quiet), sink, tmp_path)
        for sample in (sending.a_further_instance(), sending.another_version()):
            assert sending.send(sample)
        yield sending


SENT: dict[str, Callable[[Sending], Sample]] = {
    "new study": Sending.a_new_study,
    "large image": Sending.a_large_image,
    "further instance": Sending.a_further_instance,
    "other bytes": Sending.another_version,
    "repair": Sending.what_is_damaged,
}


def meet_each(sending: Sending, sent: str, calls: str, errors: Sequence[str], step: int = 1) -> int:
    """Fail the n-th call until a run passes untouched; the errors take turns.  Return how many calls failed."""
    for met, error in zip(itertools.count(), itertools.cycle(errors), strict=False):
        if not sending.look_up(Fault(calls, error, 1 + met * step), SENT[sent](sending)):
            return met
    raise AssertionError


@pytest.mark.timeout(200)
def test_the_nth_call_fails(sending):
    """A short run: the errors take turns, and one in nine of SQLite's many writes fails."""
    for calls, errors in ERRORS.items():
        sent = {"rename": "repair", "unlink": "repair", "fsync": "large image"}.get(calls, "new study")
        assert meet_each(sending, sent, calls, errors, step=9 if calls == "write of a row" else 1)
    sending.assert_nothing_was_lost()


@pytest.mark.parametrize(("calls", "number"), [("fsync", 1), ("fsync", 2), ("flush of the journal", 1)])
def test_a_descriptor_whose_fsync_failed_is_never_asked_again(sending, tmp_path, calls, number):
    """A second fsync would succeed without the data: the sender must send the file again."""
    fault = Fault(calls, "EIO", number)
    if "journal" in calls:
        sending.use_journal()
    with failing(sending.node, fault, tmp_path, also_trace="close,dup,dup2,dup3,fcntl") as traced:
        answer = sending.send(sending.a_large_image() if calls == "fsync" else sending.a_new_study())
    assert answer is not None
    assert answer.status == OUT_OF_RESOURCES
    # Threads of their own flush the audit log and the index, and meet the fault as well.
    made = [call for call in calls_of(traced.lines) if not re.search(r"/audit/|\.sqlite", call.arguments)]
    (failed,) = (at for at, call in enumerate(made) if call.name in fault.traced.split(",") and call.failed)
    after = [call.name for call in made[failed + 1 :] if call.arguments.split(",")[0] == made[failed].arguments]
    assert after[:1] in ([], ["close"])


def test_a_disk_that_does_not_keep_data_is_not_trusted(sending, tmp_path):
    """Until a test file is synced; status, check and log say so."""
    node, held, sample = sending.node, sending.a_new_study(), sending.a_large_image()
    assert sending.send(held)
    with failing(node, EVERY_FSYNC, tmp_path):
        for _ in range(3):
            answer = sending.send(sample)
            assert answer is not None
            assert answer.status == OUT_OF_RESOURCES
        assert answer.error_comment == "Archive's disk did not keep data: Input/output error"
        sending.assert_held(held, "while nothing can be stored")
        said = node.json("status", exit_code=1)
        assert said["refusing"] == said["trouble"]["sentence"] == answer.error_comment
        assert "NOTHING CAN BE STORED NOW" in node.cli("status", exit_code=1).stdout
        assert "did not keep data" in node.cli("check", exit_code=1).stdout
        assert "check the drive" in node.output

    again = sending.send(sample)
    assert again is not None
    assert again.status == 0
    assert "works again" in node.output
    said = node.json("status", exit_code=None)
    assert said["refusing"] == ""
    assert said["trouble"]["ended_at"]
    sending.assert_nothing_was_lost()


def test_a_mark_outlives_the_node(sending, tmp_path):
    """A node that is started again tries the disk before it trusts it."""
    node = sending.node
    with failing(node, EVERY_FSYNC, tmp_path):
        assert sending.send(sending.a_large_image())
    node.kill()
    assert node.json("status", exit_code=1)["refusing"]
    node.start()
    assert node.json("status", exit_code=None)["trouble"]["ended_at"]
    answer = sending.send(sending.a_new_study())
    assert answer is not None
    assert answer.status == 0


@pytest.mark.parametrize("calls", ["syncfs", "fdatasync"])
def test_a_checkpoint_that_fails_is_made_again(sending, tmp_path, calls):
    """The image was answered with success and stays in staging until it is durable in its place: files, then rows."""
    sending.use_journal()
    node = sending.node
    wait_until(lambda: not notes(node), what="the checkpoint before")
    with failing(
        node, Fault(calls, "EIO", 0), tmp_path, path=None if calls == "syncfs" else node.home / "index.sqlite-wal"
    ):
        sample = sending.a_new_study()
        answer = sending.send(sample)
        assert answer is not None
        assert answer.status == 0
        wait_until(lambda: "not durable in each place yet" in node.output, what="the checkpoint failing")
        assert sample.sha256 in left_by_a_crash(node, journals_only=True)
        assert notes(node)
        sending.assert_held(sample, "while it is in staging")
    wait_until(lambda: not notes(node), what="the next checkpoint")
    sending.assert_nothing_was_lost()


@pytest.mark.parametrize("call", ["openat", "read"])
def test_a_file_that_cannot_be_read_fails_alone(sending, tmp_path, call):
    """C-MOVE counts it as failed, by its UID, and sends the others; a failed prefetch hint is not reported."""
    node = sending.node
    samples = [sending.a_further_instance() for _ in range(3)]
    assert all(sending.send(sample) for sample in samples)
    lost = stored_file(node, samples[1])
    study = samples[0].dataset().StudyInstanceUID
    unseen = 0
    for number in itertools.count(1):
        fault = Fault(call, "EIO", number)
        for _ in range(3):  # the hint is left out when the node is not ahead
            with failing(node, fault, tmp_path, path=lost) as traced:
                final = move(node, "SINK", "STUDY", {"StudyInstanceUID": study})[-1]
            if traced.was_met:
                break
        if not traced.was_met:
            break
        unseen += final.status == 0
        if final.status:
            assert (final.status, final.failed_list) == (0xB000, (samples[1].sop_instance_uid,)), (fault, final)
        assert (final.completed or 0) >= 3
        assert node.echo()
    assert number > 1 + unseen
    assert unseen <= (call == "openat")
    assert (final.status, final.failed) == (0, 0)
    sending.assert_nothing_was_lost()


def _first_free(node, asking) -> int:
    """Return the lowest descriptor that the node does not hold all the time: a checkpoint has some for a moment."""
    held = set(range(1000))
    for _ in range(20):
        held &= {int(one.name) for one in Path(f"/proc/{node.pid}/fd").iterdir()}
        assert asking.echo() == 0
    return next(number for number in range(1000) if number not in held)


def test_no_descriptor_is_left(sending):
    """Open Associations stay, new ones are rejected, until descriptors are free again."""
    node = sending.node
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("prlimit is not installed")
    sample = sending.a_new_study()
    with Association(node, contexts_of(sample)) as storing, Association(node) as asking:
        used = _first_free(node, asking)
        limits = subprocess.run(
            [prlimit, "--nofile", "--raw", "--noheadings", "--output=SOFT,HARD", "--pid", str(node.pid)],
            check=True, capture_output=True, text=True,
        ).stdout.split()  # fmt: skip
        _limit(prlimit, node, used, limits[1])
        with pytest.raises(AssociationRefusedError) as refused:
            Association(node)
        assert refused.value.args == (3, 2, 3, 2)  # A-ASSOCIATE-RJ: transient, local limit exceeded
        assert asking.echo() == 0
        answer = storing.store(sample)
        assert answer.status == OUT_OF_RESOURCES
        assert answer.error_comment
        _limit(prlimit, node, *limits)
        assert storing.store(sample).status == 0
    sending.acknowledged[sample.sha256] = sample
    sending.assert_held(sample, "with descriptors again")
    assert "LimitNOFILE" in node.output
    sending.assert_nothing_was_lost()


def _limit(prlimit: str, node, soft: object, hard: object) -> None:
    subprocess.run([prlimit, f"--nofile={soft}:{hard}", "--pid", str(node.pid)], check=True)


if ALL:

    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize(("calls", "error"), [(calls, error) for calls in ERRORS for error in ERRORS[calls]])
    @pytest.mark.parametrize("sent", SENT)
    def test_the_nth_call_fails_with_any_error(sending, sent, calls, error):
        met = meet_each(sending, sent, calls, [error])
        assert met or (calls == "rename" and sent != "repair")
        sending.assert_nothing_was_lost()
