"""Every call to the operating system may fail: the n-th of each kind, for n = 1, 2, 3 ... until a run passes untouched.

The sender hears 0x0000 only of what can be found and given back; the node goes on, and takes the instance when it is
sent again.  BACKUP_SCP_TEST_FAULTS=all meets every call with every error, else each call with one of them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.samples import Sample, ct_series, dx, encode, replace, uid
from tests.system.contents import assert_index_equals_files, digests, staged, visible
from tests.system.failing_calls import ERRORS, KILL, Fault, failing, require_strace
from tests.system.pynetdicom_peers import Sink, find, move
from tests.system.raw_sender import Answer

ALL = os.environ.get("BACKUP_SCP_TEST_FAULTS") == "all"
OUT_OF_RESOURCES = 0xA700


class Sending:
    """A node, what it has acknowledged, and further instances for it."""

    def __init__(self, node, sink: Sink, folder) -> None:
        self.node, self._sink, self._folder = node, sink, folder
        self._numbers = itertools.count(1)
        self._slice = ct_series(1, study="known")[0]
        self.acknowledged: dict[str, Sample] = {}

    def a_new_study(self) -> Sample:
        return encode(dx(study=f"new.{next(self._numbers)}"))

    def a_further_instance(self) -> Sample:
        number = next(self._numbers)
        return encode(replace(self._slice, SOPInstanceUID=uid("slice", number), InstanceNumber=number))

    def another_version(self) -> Sample:
        return encode(dx(study="known", SeriesDescription=f"version {next(self._numbers)}"))

    def send(self, sample: Sample) -> Answer | None:
        """Return the answer; None where the connection ended in its place."""
        try:
            (answer,) = self.node.send([sample])
        except ConnectionError:
            return None
        if answer.status == 0:
            self.acknowledged[sample.sha256] = sample
        return answer

    def meet(self, fault: Fault, sample: Sample) -> bool:
        """Send an instance while a call fails; return whether that call was made."""
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
            self.assert_held(sample, fault)
        assert self.node.echo(), fault
        self.assert_held(list(self.acknowledged.values())[-1], fault)
        again = self.send(sample)
        assert again is not None, fault
        assert again.status == 0, (fault, again)
        self.assert_held(sample, fault)
        return answer is None or traced.was_met

    def assert_held(self, sample: Sample, why: object) -> None:
        """C-FIND finds it, and C-MOVE gives its bytes back."""
        keys = {"SOPInstanceUID": sample.sop_instance_uid}
        assert len(find(self.node, "IMAGE", keys).matches) == 1, why
        before = len(self._sink.stored)
        final = move(self.node, "SINK", "IMAGE", keys)[-1]
        assert (final.status, final.completed) == (0, 1), (why, final)
        (came,) = self._sink.stored[before:]
        assert came.data_set == sample.data_set, why

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
        sending = Sending(start_node(remotes=[sink.remote]), sink, tmp_path)
        for sample in (sending.a_further_instance(), sending.another_version()):
            assert sending.send(sample)
        yield sending


SENT: dict[str, Callable[[Sending], Sample]] = {
    "new study": Sending.a_new_study,
    "further instance": Sending.a_further_instance,
    "other bytes": Sending.another_version,
}


def meet_each(sending: Sending, sent: str, calls: str, errors: Sequence[str], step: int = 1) -> int:
    """Fail the n-th call until a run passes untouched; the errors take turns.  Return how many calls failed."""
    for met, error in zip(itertools.count(), itertools.cycle(errors), strict=False):
        if not sending.meet(Fault(calls, error, 1 + met * step), SENT[sent](sending)):
            return met
    raise AssertionError


@pytest.mark.timeout(200)
def test_the_nth_call_fails(sending):
    """A short round: the errors take turns, and of the many writes of SQLite one in nine is met."""
    for calls, errors in ERRORS.items():
        met = meet_each(sending, "new study", calls, errors, step=9 if calls == "write" else 1)
        assert met or calls == "rename"  # which only a repair needs
    sending.assert_nothing_was_lost()


if ALL:

    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize(("calls", "error"), [(calls, error) for calls in ERRORS for error in ERRORS[calls]])
    @pytest.mark.parametrize("sent", SENT)
    def test_the_nth_call_fails_with_any_error(sending, sent, calls, error):
        met = meet_each(sending, sent, calls, [error])
        assert met or calls == "rename"
        sending.assert_nothing_was_lost()
