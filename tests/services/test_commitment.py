"""Storage Commitment: committed instances were read back, others are reported with the reason, and reports arrive."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.archive.filesystem import FilesystemArchive
from backup_scp.errors import (
    ArchiveUnavailable,
    DestinationUnavailable,
    DuplicateTransaction,
    IndexUnavailable,
    ResourceLimitation,
)
from backup_scp.index.connection.migrate import upgrade
from backup_scp.index.sql_index import SQLIndex
from backup_scp.ports import RECOVERY, Commitment, CommitmentRequest, FailureReason, Reference, Requester, Task
from backup_scp.services.commitment import CommitmentTimers, LeaseLost, StorageCommitment
from tests.processes import wait_until
from tests.samples import cr, ct_series, dx, encode
from tests.stored import Stored

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
CONSOLE = Requester("", "SENDER", "192.0.2.7")
VERIFICATION = "1.2.840.10008.1.1"
CHANGED, MISSING = FailureReason.PROCESSING_FAILURE, FailureReason.NO_SUCH_OBJECT_INSTANCE
CONFLICT, UNSUPPORTED = FailureReason.CLASS_INSTANCE_CONFLICT, FailureReason.SOP_CLASS_NOT_SUPPORTED
PACE = CommitmentTimers(
    images=timedelta(minutes=10),
    look=timedelta(seconds=2),
    retry=timedelta(minutes=1),
    give_up=timedelta(days=2),
    lease=timedelta(seconds=30),
)


class Clock:
    """The time, as a test tells it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time) -> None:
        self.now += timedelta(**time)


class Ear:
    """Receives reports; returns each answer in turn, an error or None for success, then only success."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.tried = 0
        self.taken: list[Commitment] = []

    def __call__(self, commitment, confirm) -> None:
        self.tried += 1
        confirm()
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.taken.append(commitment)

    @property
    def results(self):
        (taken,) = self.taken
        return [
            (reference.sop_instance_uid, reason)
            for reference, reason in zip(taken.request.references, taken.results, strict=True)
        ]


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request, tmp_path):
    url = f"sqlite:///{tmp_path}/index.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    upgrade(url)
    with contextlib.closing(SQLIndex(url)) as index:
        yield Stored(FilesystemArchive(tmp_path / "archive"), index)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def commitment(stored, clock):
    return StorageCommitment(stored.archive, stored.index, VERIFICATION.__ne__, PACE, clock)


@pytest.fixture
def ask(commitment, clock):
    """Ask for samples, or pairs of SOP Class and Instance UID."""

    def ask(*wanted, transaction="1.2.3", requester=CONSOLE) -> int:
        pairs = (one if isinstance(one, tuple) else (one.sop_class_uid, one.sop_instance_uid) for one in wanted)
        return commitment.request(
            CommitmentRequest(transaction, tuple(Reference(*pair) for pair in pairs), requester, clock())
        )

    return ask


def reported(commitment) -> Ear:
    """Judge the request and take the report."""
    assert commitment.judge_next()
    ear = Ear()
    assert commitment.report_next(ear)
    return ear


# ------------------------------------------------------------------------------------------------------------- judging


def test_what_is_held_and_intact_is_committed(stored, commitment, ask):
    samples = [encode(ds) for ds in ct_series(3)]
    for sample in samples:
        stored.put(sample)
    ask(*samples)
    assert reported(commitment).results == [(sample.sop_instance_uid, None) for sample in samples]


def test_each_failure_has_its_reason_and_the_rest_is_committed(stored, commitment, clock, ask):
    good, flipped, cut, gone, other = (encode(ds) for ds in (*ct_series(3), dx(), cr()))
    locations = {sample: stored.put(sample).location for sample in (good, flipped, cut, gone, other)}
    stored.flip(locations[flipped])
    cut_path = stored.path(locations[cut])
    cut_path.chmod(0o600)
    cut_path.write_bytes(cut_path.read_bytes()[:-1])
    stored.path(locations[gone]).unlink()
    never = (good.sop_class_uid, "1.2.3.4")
    ask(good, flipped, cut, gone, (good.sop_class_uid, other.sop_instance_uid), never, (VERIFICATION, "1.2.3.5"), good)
    clock.pass_(minutes=11)
    assert [reason for _, reason in reported(commitment).results] == [
        None,
        CHANGED,
        CHANGED,
        MISSING,
        CONFLICT,
        MISSING,
        UNSUPPORTED,
        None,
    ]


def test_the_header_of_the_file_counts_too(stored, commitment, ask):
    sample = encode(dx())
    stored.flip(stored.put(sample).location, 140)
    ask(sample)
    assert reported(commitment).results == [(sample.sop_instance_uid, CHANGED)]


def test_what_is_damaged_stands_in_the_index_until_a_resend_has_repaired_it(stored, commitment, ask):
    sample = encode(dx())
    stored.flip(stored.put(sample).location)
    ask(sample, transaction="1")
    assert reported(commitment).results == [(sample.sop_instance_uid, CHANGED)]
    assert stored.index.holdings().damaged == 1

    assert stored.put(sample, 1).repaired
    ask(sample, transaction="2")
    assert reported(commitment).results == [(sample.sop_instance_uid, None)]
    assert stored.index.holdings().damaged == 0


def test_what_was_read_back_counts_as_verified(stored, commitment, ask):
    sample = encode(dx())
    stored.put(sample)
    assert stored.index.holdings().never_verified == 1
    ask(sample)
    reported(commitment)
    assert stored.index.holdings().never_verified == 0


def test_the_requester_s_own_version_has_to_be_intact_too(stored, commitment, ask):
    """It sent other bytes under another sender's UID, and wants to delete those."""
    theirs, mine = (encode(dx(StudyDescription=text)) for text in ("One", "Two"))
    stored.put(theirs, calling_ae_title="OTHER")
    location = stored.put(mine, 1).location
    stored.flip(location)
    ask(mine)
    assert reported(commitment).results == [(mine.sop_instance_uid, CHANGED)]


def test_the_answering_version_has_to_be_intact_too(stored, commitment, ask):
    theirs, mine = (encode(dx(StudyDescription=text)) for text in ("One", "Two"))
    stored.flip(stored.put(theirs, calling_ae_title="OTHER").location)
    stored.put(mine, 1)
    ask(mine)
    assert reported(commitment).results == [(mine.sop_instance_uid, CHANGED)]


def test_the_bytes_are_read_after_the_request_for_each_request(stored, commitment, ask):
    """An earlier commitment proves nothing now."""
    sample = encode(dx())
    location = stored.put(sample).location
    ask(sample, transaction="1")
    assert reported(commitment).results == [(sample.sop_instance_uid, None)]
    stored.flip(location)
    ask(sample, transaction="2")
    assert reported(commitment).results == [(sample.sop_instance_uid, CHANGED)]


# ------------------------------------------------------------------------------------------------------------- waiting


def test_a_request_waits_for_its_images(stored, commitment, clock, ask):
    here, late = (encode(ds) for ds in ct_series(2))
    stored.put(here)
    ask(here, late)
    for _ in range(5):
        assert commitment.judge_next()
        assert not commitment.judge_next()
        assert not commitment.report_next(Ear())
        clock.pass_(seconds=30)
    stored.put(late)
    assert {reason for _, reason in reported(commitment).results} == {None}


@pytest.mark.parametrize(("age_s", "pause_s"), [(0, 2), (4, 2), (20, 5), (120, 30), (400, 30)])
def test_missing_images_are_searched_again_after_a_pause_that_grows(stored, commitment, clock, ask, age_s, pause_s):
    ask(encode(dx()))
    clock.pass_(seconds=age_s)
    assert commitment.judge_next()
    clock.pass_(seconds=pause_s - 0.001)
    assert not commitment.judge_next()
    clock.pass_(seconds=0.001)
    assert commitment.judge_next()


def test_it_waits_so_long_and_no_longer(stored, commitment, clock, ask):
    here, late = (encode(ds) for ds in ct_series(2))
    stored.put(here)
    ask(here, late)
    while clock.now < START + PACE.images:
        commitment.judge_next()
        assert not commitment.report_next(Ear())
        clock.pass_(seconds=10)
    assert [reason for _, reason in reported(commitment).results] == [None, MISSING]


@pytest.mark.parametrize("is_known", [True, False])
def test_what_has_not_come_back_from_a_copy_yet_is_waited_for(stored, commitment, clock, ask, is_known):
    here, away = (encode(ds) for ds in ct_series(2))
    stored.put(here)
    if is_known:
        path = stored.archive.read(stored.put(away).location).path
        content = path.read_bytes()
        path.unlink()
    recovery = Task(RECOVERY, clock())
    stored.index.record_task(recovery)
    ask(here, away)
    for _ in range(4):
        clock.pass_(minutes=5)
        assert commitment.judge_next()
        assert not commitment.report_next(Ear())
    assert stored.index.holdings().damaged == 0
    if is_known:
        path.write_bytes(content)
    stored.index.record_task(replace(recovery, ended_at=clock()))
    clock.pass_(minutes=1)
    assert [reason for _, reason in reported(commitment).results] == [None, None if is_known else MISSING]


def test_what_can_never_come_is_not_waited_for(stored, commitment, ask):
    sample = encode(dx())
    stored.put(sample)
    ask((VERIFICATION, "1.2.3"), (encode(cr()).sop_class_uid, sample.sop_instance_uid))
    assert [reason for _, reason in reported(commitment).results] == [UNSUPPORTED, CONFLICT]


def test_an_archive_that_cannot_be_read_is_waited_for_and_proves_nothing(stored, commitment, clock, ask, monkeypatch):
    sample = encode(dx())
    stored.put(sample)
    ask(sample)

    def unmounted(*_):
        raise ArchiveUnavailable("not mounted")

    with monkeypatch.context() as patch:
        patch.setattr(stored.archive, "verify", unmounted)
        assert commitment.judge_next()
        assert not commitment.judge_next()  # later, not at once
    assert not commitment.report_next(Ear())
    clock.pass_(seconds=2)
    assert reported(commitment).results == [(sample.sop_instance_uid, None)]

    ask(sample, transaction="2")
    clock.pass_(minutes=10)
    monkeypatch.setattr(stored.archive, "verify", unmounted)
    assert reported(commitment).results == [(sample.sop_instance_uid, CHANGED)]
    assert stored.index.holdings().damaged == 0


@pytest.fixture
def looked_for(stored, monkeypatch):
    """Note how many references are looked for each time."""
    numbers, find = [], stored.index.commitments.find

    def noted(references, requester, **options):
        numbers.append(len(references))
        return find(references, requester, **options)

    monkeypatch.setattr(stored.index.commitments, "find", noted)
    return numbers


def test_only_what_is_missing_is_looked_for_again(stored, commitment, clock, ask, looked_for, monkeypatch):
    """Else a request of 10,000 unknown UIDs costs half a second each time, for ten minutes."""
    monkeypatch.setattr("backup_scp.services.commitment_verification._BATCH", 2)
    samples = [encode(ds) for ds in ct_series(6)]
    for sample in samples[:3]:
        stored.put(sample)
    ask(*samples)
    for _ in range(3):
        assert commitment.judge_next()
        clock.pass_(seconds=30)
    assert looked_for == [2, 2, 2, 2]  # the first two, then the next two again and again
    for sample in samples[3:]:
        stored.put(sample)
    assert {reason for _, reason in reported(commitment).results} == {None}


def test_what_a_request_waits_for_is_forgotten_when_there_are_many(stored, commitment, clock, ask, monkeypatch):
    monkeypatch.setattr("backup_scp.services.commitment_verification._MOST_BEGUN", 2)
    here, late = (encode(ds) for ds in ct_series(2))
    stored.put(here)
    for number in range(5):
        ask(here, late, transaction=str(number))
        assert commitment.judge_next()
    assert len(commitment._verifier._begun) == 2
    stored.put(late)
    clock.pass_(minutes=1)
    for _ in range(5):
        assert {reason for _, reason in reported(commitment).results} == {None}
    assert len(commitment._verifier._begun) == 0


def test_the_request_that_was_not_looked_at_for_longest_is_forgotten_first(stored, commitment, ask, monkeypatch):
    monkeypatch.setattr("backup_scp.services.commitment_verification._MOST_BEGUN", 2)
    now, leased = datetime.now(UTC), []
    for number in range(3):
        ask(encode(dx()), transaction=str(number))
        leased.append(stored.index.commitments.lease_request(now, now + PACE.lease))
    progress_of = commitment._verifier.progress_of
    first = progress_of(leased[0])
    progress_of(leased[1])
    assert progress_of(leased[0]) is first
    progress_of(leased[2])
    assert list(commitment._verifier._begun) == [leased[0].number, leased[2].number]
    assert progress_of(leased[0]) is first


def test_a_request_is_read_as_long_as_its_turn_lasts(stored, clock, monkeypatch):
    monkeypatch.setattr("backup_scp.services.commitment_verification._READ_AT_ONCE", 1)
    pace = replace(PACE, turn=timedelta(hours=1))
    commitment = StorageCommitment(stored.archive, stored.index, VERIFICATION.__ne__, pace, clock)
    samples = [encode(ds) for ds in ct_series(4)]
    for sample in samples:
        stored.put(sample)
    references = tuple(Reference(sample.sop_class_uid, sample.sop_instance_uid) for sample in samples)
    commitment.request(CommitmentRequest("1", references, CONSOLE, clock()))
    assert commitment.judge_next()
    assert commitment.report_next(Ear())


@pytest.fixture
def short_turns(stored, clock, monkeypatch):
    monkeypatch.setattr("backup_scp.services.commitment_verification._READ_AT_ONCE", 1)
    pace = replace(PACE, turn=timedelta(0))
    return StorageCommitment(stored.archive, stored.index, VERIFICATION.__ne__, pace, clock)


def test_a_long_request_does_not_keep_others_waiting(stored, short_turns, clock, monkeypatch):
    """Requests are read in turn for some seconds each; instances are not read twice."""
    samples = [encode(ds) for ds in ct_series(4)]
    reads, verify = [], stored.archive.verify
    for sample in samples:
        stored.put(sample)
    references = tuple(Reference(sample.sop_class_uid, sample.sop_instance_uid) for sample in samples)
    for number in range(3):
        requester = Requester("", f"DR{number}", "192.0.2.8")
        short_turns.request(CommitmentRequest("1", references, requester, clock()))
    clock.pass_(seconds=1)
    short_turns.request(CommitmentRequest("2", references[:1], CONSOLE, clock()))

    def noted(*facts):
        reads.append(facts)
        return verify(*facts)

    monkeypatch.setattr(stored.archive, "verify", noted)
    ear = Ear()
    assert short_turns.judge_next()
    assert not short_turns.report_next(ear)
    assert short_turns.judge_next()
    assert short_turns.report_next(ear)
    assert ear.results == [(references[0].sop_instance_uid, None)]
    while short_turns.judge_next():
        pass
    assert len(reads) == 1 + 3 * 4
    while short_turns.report_next(ear):
        pass
    assert [taken.results for taken in ear.taken[1:]] == [(None,) * 4] * 3


def test_what_was_read_before_the_archive_was_gone_is_read_again(stored, short_turns, clock, ask, monkeypatch):
    """A proof is as fresh as the report."""
    samples = [encode(ds) for ds in ct_series(2)]
    locations = [stored.put(sample).location for sample in samples]
    references = tuple(Reference(sample.sop_class_uid, sample.sop_instance_uid) for sample in samples)
    short_turns.request(CommitmentRequest("1", references, CONSOLE, clock()))
    assert short_turns.judge_next()

    def unmounted(*_):
        raise ArchiveUnavailable("not mounted")

    with monkeypatch.context() as patch:
        patch.setattr(stored.archive, "verify", unmounted)
        assert short_turns.judge_next()
        assert not short_turns.judge_next()  # later, not at once
    stored.flip(locations[0])
    clock.pass_(seconds=5)
    while short_turns.judge_next():
        pass
    ear = Ear()
    assert short_turns.report_next(ear)
    assert [reason for _, reason in ear.results] == [CHANGED, None]


def test_a_stranger_s_request_is_judged_for_what_it_sent_itself(stored, commitment, clock):
    """It may not query, and must not learn in this way what is stored."""
    own, of_another, of_the_console = (encode(ds) for ds in ct_series(3))
    stored.put(own)
    stored.put(of_another, calling_ae_title="OTHER")
    stored.put(of_the_console, remote="console")
    references = tuple(Reference(one.sop_class_uid, one.sop_instance_uid) for one in (own, of_another, of_the_console))
    for transaction, own_only in (("1", False), ("2", True)):
        commitment.request(CommitmentRequest(transaction, references, CONSOLE, clock(), own_only=own_only))
    clock.pass_(minutes=11)
    ear = Ear()
    while commitment.judge_next():
        pass
    while commitment.report_next(ear):
        pass
    results = {taken.request.transaction_uid: taken.results for taken in ear.taken}
    assert results == {"1": (None, None, None), "2": (None, MISSING, MISSING)}


def test_a_judgement_that_takes_longer_than_its_lease_is_nobody_else_s(stored, monkeypatch):
    """Else it would be read twice, and reported twice."""
    pace = replace(PACE, lease=timedelta(seconds=0.3))
    slow, other = (StorageCommitment(stored.archive, stored.index, pace=pace) for _ in range(2))
    sample = encode(dx())
    stored.put(sample)
    reference = Reference(sample.sop_class_uid, sample.sop_instance_uid)
    slow.request(CommitmentRequest("1", (reference,), CONSOLE, datetime.now(UTC)))
    reading, go_on, verify = threading.Event(), threading.Event(), stored.archive.verify

    def long(*facts):
        reading.set()
        go_on.wait()
        return verify(*facts)

    renewals, renew = [], slow.renew

    def noted(leased):
        renewals.append(datetime.now(UTC))
        return renew(leased)

    monkeypatch.setattr(slow, "renew", noted)
    monkeypatch.setattr(stored.archive, "verify", long)
    judging = threading.Thread(target=slow.judge_next)
    judging.start()
    reading.wait()
    began = datetime.now(UTC)
    wait_until(lambda: renewals and renewals[-1] - began > 2 * pace.lease)
    assert not other.judge_next()
    go_on.set()
    judging.join()
    ear = Ear()
    assert slow.report_next(ear)
    assert len(ear.taken) == 1


@pytest.fixture
def other(stored, clock):
    """Another node of the same archive."""
    return StorageCommitment(stored.archive, stored.index, pace=PACE, clock=clock)


def test_what_one_node_works_on_no_other_takes_while_its_lease_lasts(
    stored, commitment, other, clock, ask, monkeypatch
):
    sample, taken, verify = encode(dx()), [], stored.archive.verify
    stored.put(sample)

    def long(*facts):
        (keeper,) = (thread for thread in threading.enumerate() if thread.name == "lease")
        taken.append((other.judge_next(), keeper.daemon))  # a thread of its own must not keep a node from ending
        return verify(*facts)

    def report(commitment_, confirm):
        taken.append((other.report_next(Ear()), True))
        clock.pass_(seconds=20)
        confirm()
        clock.pass_(seconds=20)
        taken.append((other.report_next(Ear()), True))

    monkeypatch.setattr(stored.archive, "verify", long)
    for transaction in ("1", "2"):  # the second is leased in a new round
        ask(sample, transaction=transaction)
        assert commitment.judge_next()
        assert commitment.report_next(report)
    assert taken == [(False, True)] * 6

    number = ask(sample, transaction="3")
    assert commitment.judge_next()
    leased = commitment.lease_report_of([number], 0)
    assert leased
    assert not other.report_next(Ear())
    clock.pass_(seconds=PACE.lease.total_seconds())
    assert other.report_next(Ear())


def test_a_lease_is_not_renewed_after_the_work(stored, ask, clock, monkeypatch):
    """Else it would keep a request that was postponed."""
    renewing, go_on = threading.Event(), threading.Event()

    class Joined(threading.Thread):
        def join(self, timeout=None):
            go_on.set()
            super().join(timeout)

    def renew(_):
        renewing.set()
        go_on.wait()
        return True

    monkeypatch.setattr(threading, "Thread", Joined)
    pace = replace(PACE, lease=timedelta(seconds=0.003))
    commitment = StorageCommitment(stored.archive, stored.index, pace=pace, clock=clock)
    monkeypatch.setattr(commitment, "renew", renew)
    monkeypatch.setattr(stored.archive, "verify", lambda *_: renewing.wait())
    sample = encode(dx())
    stored.put(sample)
    ask(sample)
    try:
        assert commitment.judge_next()
        assert "lease" not in {thread.name for thread in threading.enumerate()}
    finally:
        go_on.set()


def test_who_waits_for_work_is_woken_by_each_request_result_and_delivery(stored, commitment, ask):
    heard = [commitment.bell.generation]
    stored.put(encode(dx()))
    for step in (lambda: ask(encode(dx())), commitment.judge_next, lambda: commitment.report_next(Ear())):
        assert step()
        heard.append(commitment.bell.generation)
    assert len(set(heard)) == len(heard)


def test_the_log_counts_what_was_committed_and_what_failed(stored, commitment, clock, ask, caplog):
    caplog.set_level("INFO")
    samples = [encode(ds) for ds in ct_series(3)]
    for sample in samples[1:]:
        stored.put(sample)
    ask(*samples)
    clock.pass_(minutes=10)
    commitment.judge_next()
    assert "'SENDER': 2 SOP Instances read back and committed, 1 failed" in caplog.text


def test_a_node_that_stops_in_the_middle_reports_nothing_and_goes_on_later(stored, clock, ask, commitment):
    sample = encode(dx())
    stored.put(sample)
    ask(sample)
    commitment.stopping.set()
    assert commitment.judge_next()
    assert not commitment.report_next(Ear())
    clock.pass_(seconds=2)
    after = StorageCommitment(stored.archive, stored.index, pace=PACE, clock=clock)
    assert reported(after).results == [(sample.sop_instance_uid, None)]


# ----------------------------------------------------------------------------------------------------------- reporting


def test_a_transaction_uid_is_dead_while_and_after_it_is_worked_on(stored, commitment, ask):
    stored.put(encode(dx()))
    ask(encode(dx()))
    with pytest.raises(DuplicateTransaction):
        ask(encode(dx()))
    reported(commitment)
    with pytest.raises(DuplicateTransaction):
        ask(encode(dx()))
    assert not commitment.judge_next()
    assert not commitment.report_next(Ear())


def test_a_report_is_tried_again_with_pauses_that_double_and_delivered_once(stored, commitment, clock, ask):
    stored.put(encode(dx()))
    ask(encode(dx()))
    commitment.judge_next()
    ear = Ear(*[DestinationUnavailable("off")] * 8)
    pauses = []
    while not ear.taken:
        before = clock.now
        while not commitment.report_next(ear):
            clock.pass_(seconds=30)
        pauses.append((clock.now - before).total_seconds() / 60)
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    clock.pass_(days=1)
    assert not commitment.report_next(ear)
    assert len(ear.taken) == 1


def test_it_is_given_up_after_some_days(stored, commitment, clock, ask):
    stored.put(encode(dx()))
    ask(encode(dx()))
    commitment.judge_next()

    def off(*_):
        raise DestinationUnavailable("off")

    for _ in range(24 * 4):
        commitment.report_next(off)
        clock.pass_(hours=1)
    (owed,) = stored.index.commitments.owed()
    assert (owed.owed, owed.given_up, owed.error) == (0, 1, "off")
    assert owed.tried_at <= START + PACE.give_up
    assert not commitment.report_next(Ear())


@pytest.mark.parametrize("late_us", [0, 1])
def test_the_log_says_when_the_next_try_would_be_too_late(stored, commitment, clock, ask, caplog, late_us):
    stored.put(encode(dx()))
    ask(encode(dx()))
    commitment.judge_next()
    clock.now = START + PACE.give_up - PACE.retry + timedelta(microseconds=late_us)
    commitment.report_next(Ear(DestinationUnavailable("off")))
    (owed,) = stored.index.commitments.owed()
    assert owed.given_up == late_us
    assert ("; it is given up" in caplog.text) == bool(late_us)


def test_an_index_that_cannot_be_told_of_a_delivery_does_not_make_a_second_one(
    stored, commitment, clock, ask, monkeypatch
):
    stored.put(encode(dx()))
    ask(encode(dx()))
    commitment.judge_next()
    ear = Ear()

    def gone(*_):
        raise IndexUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(stored.index.commitments), "report_delivered", gone)
        with pytest.raises(IndexUnavailable):
            commitment.report_next(ear)
    clock.pass_(minutes=1)
    assert commitment.report_next(ear)
    clock.pass_(days=1)
    assert not commitment.report_next(ear)
    assert (ear.tried, len(ear.taken)) == (1, 1)
    assert not commitment._delivered


def test_a_report_that_another_node_has_taken_over_is_not_sent(stored, commitment, clock, ask):
    """This node slept over the end of its lease."""
    stored.put(encode(dx()))
    ask(encode(dx()))
    commitment.judge_next()
    other, awake, asleep = StorageCommitment(stored.archive, stored.index, pace=PACE, clock=clock), Ear(), []

    def report(_, confirm):
        clock.pass_(minutes=1)
        assert other.report_next(awake)
        try:
            confirm()
        except LeaseLost:
            asleep.append(True)
            raise

    assert commitment.report_next(report)
    assert asleep == [True]
    assert len(awake.taken) == 1
    clock.pass_(days=1)
    assert not commitment.report_next(awake)


def test_an_index_that_does_not_answer_is_a_resource_limitation(commitment, ask, monkeypatch):
    def gone(*_):
        raise IndexUnavailable("The index is gone")

    monkeypatch.setattr(type(commitment._records), "enter", gone)
    with pytest.raises(ResourceLimitation, match="The index is gone"):
        ask(encode(dx()))
