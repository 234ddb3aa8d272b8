"""Storage Commitment requests in the index, on both engines: owner, due time, number."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from backup_scp.errors import DuplicateTransaction, ResourceLimitation
from backup_scp.index.records import commitments
from backup_scp.index.sql_index import SQLIndex
from backup_scp.ports import CommitmentRequest, FailureReason, Reference, Requester, Task
from tests.index.conftest import opened
from tests.index.examples import CR, DX, MORNING, at, version

CONSOLE = Requester("", "DR1", "192.0.2.7")
LONG_AGO = at(-60)
LEASE = timedelta(seconds=30)
DAMAGED = FailureReason.PROCESSING_FAILURE


def request(transaction="1.2.3", *uids, requester=CONSOLE, minute=0.0) -> CommitmentRequest:
    references = tuple(Reference(DX, uid) for uid in uids or ("1.2.3.4.5",))
    return CommitmentRequest(transaction, references, requester, at(minute))


@pytest.fixture
def index(url):
    with opened(url) as index:
        yield index


@pytest.fixture
def records(index):
    return index.commitments


def taken(records, minute=0.0):
    return records.lease_request(at(minute), at(minute) + LEASE)


def due(records, minute=0.0):
    return records.lease_report(at(minute), at(minute) + LEASE)


def concluded(records, transaction="1.2.3", minute=0.0, **facts) -> int:
    """Enter a request and judge it: its report is owed."""
    number = records.enter(request(transaction, minute=minute, **facts))
    leased = taken(records, minute)
    assert leased.number == number
    assert records.conclude(leased, [None] * len(leased.request.references), at(minute))
    return number


# ------------------------------------------------------------------------------------------------------------ entering


def test_a_request_comes_back_as_it_was(records, url):
    odd = request("1.2.3", "1.2", "1.2", "ü\n\0'\"\\", requester=Requester("Łódź", "DR 1", "2001:db8::1"))
    odd = dataclasses.replace(odd, called_ae_title="OLD PACS")
    number = records.enter(odd)
    with contextlib.closing(SQLIndex(url)) as elsewhere:
        leased = taken(elsewhere.commitments)
    assert (leased.number, leased.request, leased.results, leased.attempts) == (number, odd, (), 0)


def test_a_transaction_uid_is_taken_once_by_each_requester(records):
    records.enter(request())
    with pytest.raises(DuplicateTransaction):
        records.enter(request(minute=1))
    records.enter(request(requester=Requester("", "DR2", CONSOLE.address)))
    records.enter(request(requester=Requester("elsewhere", "DR1", CONSOLE.address)))


def test_it_stays_taken_after_the_report_and_is_forgotten_after_30_days(records):
    concluded(records)
    records.report_delivered(due(records), at(0))
    with pytest.raises(DuplicateTransaction):
        records.enter(request(minute=60 * 24 * 29))
    records.enter(request(minute=60 * 24 * 31))


def test_requests_of_one_address_are_bounded(records, monkeypatch):
    monkeypatch.setattr(commitments, "MOST_REQUESTS", 2)
    for name in ("A", "B"):
        records.enter(request(requester=Requester("", name, CONSOLE.address)))
    with pytest.raises(ResourceLimitation, match="2 commitments are open at this address"):
        records.enter(request(requester=Requester("", "C", CONSOLE.address)))
    records.enter(request(requester=Requester("", "C", "192.0.2.8")))


def test_references_of_one_address_are_bounded_until_they_are_reported(records, monkeypatch):
    monkeypatch.setattr(commitments, "MOST_REFERENCES", 3)
    concluded(records, "1")
    with pytest.raises(ResourceLimitation):
        records.enter(request("2", "1", "2", "3"))
    records.report_delivered(due(records), at(0))
    records.enter(request("2", "1", "2", "3"))


def test_strangers_may_have_less_open(records, monkeypatch):
    monkeypatch.setattr(commitments, "MOST_REFERENCES_OF_STRANGERS", 2)
    records.enter(replace(request("1", "1", "2"), own_only=True))
    with pytest.raises(ResourceLimitation):
        records.enter(replace(request("2", "1"), own_only=True))
    records.enter(request("3", "1"))
    assert [taken(records).request.own_only for _ in range(2)] == [True, False]


# -------------------------------------------------------------------------------------------------------------- leases


def test_another_address_can_have_its_turn(records):
    for number, address in enumerate(("192.0.2.1", "192.0.2.1", "192.0.2.2")):
        records.enter(request(str(number), requester=Requester("", "DR1" * number, address)))
    leased = records.lease_request(at(0), at(1), {"192.0.2.1", "192.0.2.3"})
    assert leased.request.requester.address == "192.0.2.2"
    assert records.lease_request(at(0), at(1), {"192.0.2.1", "192.0.2.3"}) is None
    assert taken(records).request.requester.address == "192.0.2.1"


def test_nobody_else_gets_what_is_leased_until_the_lease_is_over(records):
    number = records.enter(request())
    assert taken(records).number == number
    assert taken(records) is None
    assert taken(records, 0.49) is None
    assert taken(records, 0.51).number == number


def test_what_was_leased_while_the_clock_was_ahead_is_free(records):
    records.enter(request())
    records.lease_request(at(0), at(100_000))
    found = taken(records, 1)
    assert found is not None
    assert records.conclude(found, [None], at(1))
    records.lease_report(at(2), at(100_000))
    assert due(records, 3) is not None


def test_what_was_put_off_while_the_clock_was_ahead_is_due(records):
    records.enter(request())
    records.postpone(taken(records), at(100_000))
    leased = taken(records, 1)
    records.postpone(leased, at(1 + 59))  # as long as anything is ever put off
    assert taken(records, 2) is None


def test_what_was_asked_for_while_the_clock_was_ahead_was_asked_for_now(records):
    """Else it would wait for its images until that time, and its report never be given up."""
    records.enter(request(minute=100_000))
    leased = taken(records, 1)
    assert leased.request.requested_at == at(1)
    assert records.conclude(leased, [None], at(1))
    assert due(records, 2).request.requested_at == at(1)


def test_a_transaction_uid_that_was_to_be_forgotten_in_the_far_future_is(records):
    number = concluded(records, minute=100_000)
    records.report_delivered(records.lease_report_of([number], 0, at(100_000), at(100_001)), at(100_000))
    records.enter(request("9.9", minute=1))
    assert records.enter(request(minute=2)) is not None


def test_a_lease_can_be_renewed_and_one_that_is_lost_cannot(records):
    records.enter(request())
    first = taken(records)
    assert records.renew(first, at(1))
    assert taken(records, 0.9) is None
    second = taken(records, 1.1)
    assert not records.renew(first, at(5))
    assert not records.conclude(first, [None], at(1.2))
    assert records.conclude(second, [DAMAGED], at(1.2))
    assert due(records, 1.3).results == (DAMAGED,)


def test_twelve_workers_of_three_processes_share_forty_requests(records, url):
    numbers = {records.enter(request(str(number))) for number in range(40)}

    def work(elsewhere) -> list[int]:
        mine = []
        while leased := taken(elsewhere.commitments):
            mine.append(leased.number)
        return mine

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(12) as pool:
        processes = [stack.enter_context(contextlib.closing(SQLIndex(url))) for _ in range(3)]
        shares = list(pool.map(work, processes * 4))
    assert sorted(itertools.chain.from_iterable(shares)) == sorted(numbers)


def test_what_is_postponed_is_due_later(records):
    number = records.enter(request())
    records.postpone(taken(records), at(5))
    assert taken(records, 4.9) is None
    assert taken(records, 5).number == number


# ------------------------------------------------------------------------------------------------------------- reports


def test_a_report_is_owed_when_the_request_was_judged(records):
    records.enter(request("1.2.3", "1", "2"))
    leased = taken(records)
    assert due(records) is None
    records.conclude(leased, [None, DAMAGED], at(0))
    report = due(records)
    assert (report.request, report.results) == (leased.request, (None, DAMAGED))
    assert taken(records, 60) is None


def test_reports_to_one_requester_go_one_after_the_other(records):
    first, _ = concluded(records, "1"), concluded(records, "2")
    other = concluded(records, "3", requester=Requester("", "DR2", "192.0.2.8"))
    assert {due(records).number, due(records).number} == {first, other}
    assert due(records) is None


def test_a_failed_report_holds_the_others_back_and_a_delivered_one_lets_them_go(records):
    numbers = {concluded(records, str(number)) for number in range(3)}
    failed = due(records)
    records.report_failed(failed, "nobody listens", at(0), at(10), LONG_AGO)
    assert due(records, 9) is None
    tried = due(records, 10)
    if tried.number == failed.number:
        assert tried.attempts == 1
    records.report_failed(tried, "nobody listens", at(10), at(30), LONG_AGO)
    delivered = due(records, 30)
    records.report_delivered(delivered, at(30))
    rest = [due(records, 30)]
    records.report_delivered(rest[0], at(30))
    rest.append(due(records, 30))
    assert {delivered.number, *(one.number for one in rest)} == numbers


def test_what_was_delivered_is_never_due_again_whoever_has_it(records):
    concluded(records)
    late = due(records)
    other = due(records, 1)
    assert other.number == late.number
    records.report_delivered(late, at(1))
    records.report_failed(other, "no answer", at(1.1), at(2), LONG_AGO)
    assert due(records, 60 * 24) is None
    assert records.owed() == []


def test_a_report_can_be_taken_before_it_is_due_by_its_number(records):
    number = concluded(records)
    until = at(0) + LEASE
    assert records.lease_report_of([number + 1], 0, at(0), until) is None
    assert records.lease_report_of([number], 1, at(0), until) is None
    records.report_failed(due(records), "no", at(0), at(60), LONG_AGO)
    leased = records.lease_report_of([number + 1, number], 1, at(0), until)
    assert leased.number == number
    assert records.lease_report_of([number], 0, at(0), until) is None


def test_what_is_given_up_is_shown_and_not_tried(records):
    concluded(records)
    records.report_failed(due(records), "nobody listens", at(5), at(6), at(1))
    assert due(records, 60) is None
    (owed,) = records.owed()
    assert (owed.owed, owed.given_up, owed.error, owed.next_at) == (0, 1, "nobody listens", None)


def test_older_requests_of_the_same_requester_are_given_up_with_it(records):
    for minute in range(5):
        concluded(records, str(minute), minute=minute)
    concluded(records, "0", requester=Requester("", "DR2", CONSOLE.address))
    leased = due(records, 5)
    while leased.request.requester != CONSOLE:
        leased = due(records, 5)
    records.report_failed(leased, "nobody listens", at(5), at(6), at(2.5))
    assert {owed.requester.ae_title: (owed.owed, owed.given_up) for owed in records.owed()} == {
        "DR1": (2, 3),
        "DR2": (1, 0),
    }


def test_who_waits_for_what(records):
    concluded(records, "1", minute=3)
    concluded(records, "2", minute=4)
    records.report_failed(due(records, 4), "nobody listens", at(5), at(7), LONG_AGO)
    other = Requester("", "DR2", "192.0.2.8")
    records.enter(request(requester=other, minute=2))
    first, second = records.owed()
    assert (first.requester, first.waiting, first.owed, first.since, first.error) == (other, 1, 0, at(2), "")
    assert (second.requester, second.waiting, second.owed, second.since) == (CONSOLE, 0, 2, at(3))
    assert (second.error, second.tried_at, second.next_at) == ("nobody listens", at(5), at(7))


# ------------------------------------------------------------------------------------------------------------- looking


def found(records, *uids, requester=CONSOLE, sop_class=DX):
    references = [Reference(sop_class, uid) for uid in uids]
    held = records.find(references, requester)
    assert list(held) == references
    return [{one.sha256 for one in versions} for versions in held.values()]


def test_the_answering_version_of_each_is_found(records, index):
    versions = [version(f"1.{number}") for number in range(3)]
    for one in versions:
        index.add(one)
    assert found(records, "1.2", "9.9", "1.0") == [{versions[2].sha256}, set(), {versions[0].sha256}]


def test_more_than_fit_into_one_question(records, index, monkeypatch):
    monkeypatch.setattr(commitments, "_BATCH", 3)
    for number in range(10):
        index.add(version(f"1.{number}"))
    assert all(found(records, *(f"1.{number}" for number in range(10))))


def test_the_latest_version_of_the_requester_itself_counts_too(records, index):
    first, mine, again = (
        version(content=content, minute=minute, sender=sender)
        for minute, (content, sender) in enumerate([("theirs", "DR9"), ("mine", "DR1"), ("corrected", "DR1")])
    )
    for one in (first, mine, again):
        index.add(one)
    assert found(records, "1.2.3.4.5") == [{first.sha256, again.sha256}]
    assert found(records, "1.2.3.4.5", requester=Requester("", "DR9", "192.0.2.9")) == [{first.sha256}]
    assert found(records, "1.2.3.4.5", requester=Requester("other", "DR1", "192.0.2.9")) == [set()]


def test_one_uid_in_two_studies_is_two_files(records, index):
    both = [
        version(study=study, series=f"{study}.1", sop_class=sop_class) for study, sop_class in (("1", DX), ("2", CR))
    ]
    for one in both:
        index.add(one)
    assert found(records, "1.2.3.4.5") == [{one.sha256 for one in both}]


def test_a_rebuild_keeps_them(records, index):
    number = records.enter(request())
    index.reindex_studies([version()], lambda _: None, Task("rebuild", MORNING))
    assert taken(records).number == number
    assert taken(records, 1).request.requested_at == MORNING
