"""Waits after failures, in a real database of users."""

from __future__ import annotations

import contextlib

import pytest

from backup_scp.accounts import failure_records
from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.services.backoff import Backoff, network_of


@pytest.fixture
def accounts(tmp_path):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def backoff(accounts, clock) -> Backoff:
    return Backoff(accounts, "name", free=3, first_s=2, longest_s=60)


def test_the_wait_grows_to_its_limit(backoff, clock):
    assert [backoff.begin("anna") for _ in range(3)] == [0, 0, 0]
    waits = []
    for _ in range(7):
        waits.append(round(backoff.begin("anna")))
        clock.jump(seconds=waits[-1])
        assert backoff.begin("anna") == 0
    assert waits == [2, 4, 8, 16, 32, 60, 60]


def test_an_attempt_that_has_to_wait_does_not_count(backoff, clock):
    for _ in range(3):
        backoff.begin("anna")
    assert {round(backoff.begin("anna")) for _ in range(100)} == {2}
    clock.jump(seconds=2)
    assert backoff.begin("anna") == 0


def test_a_success_and_time_forget(backoff, clock):
    for _ in range(3):
        backoff.begin("anna")
        backoff.begin("ben")
    backoff.succeeded("anna")
    assert (backoff.begin("anna"), round(backoff.begin("ben"))) == (0, 2)
    clock.jump(seconds=3601)
    assert [round(backoff.begin("ben")) for _ in range(4)] == [0, 0, 0, 2]


def test_the_end_of_a_process_opens_no_door_anew(backoff, accounts, tmp_path):
    for _ in range(3):
        backoff.begin("anna")
    accounts.close()
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as of_another:
        assert round(Backoff(of_another, "name", free=3, first_s=2).begin("anna")) == 2
        assert Backoff(of_another, "address", free=3, first_s=2).begin("anna") == 0


def test_a_clock_that_was_ahead_keeps_nobody_out(backoff, clock):
    clock.jump(days=400)
    for _ in range(3):
        backoff.begin("anna")
    clock.jump(days=-400)
    assert [round(backoff.begin("anna")) for _ in range(2)] == [0, 4]


def test_who_tries_many_names_fills_no_disk(backoff, accounts, clock, monkeypatch):
    monkeypatch.setattr(failure_records, "MOST", 5)
    other = Backoff(accounts, "address")
    other.begin("192.0.2.7")
    for number in range(30):
        backoff.begin(str(number))
        clock.jump(seconds=1)
    assert len(rows(accounts, "name")) == 5
    assert len(rows(accounts, "address")) == 1
    assert [round(backoff.begin("29")) for _ in range(3)] == [0, 0, 2]


def rows(accounts, kind: str) -> list[tuple[str, ...]]:
    with accounts._database.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM failure WHERE kind = ?", (kind,))]


def test_what_was_typed_is_not_stored(backoff, accounts):
    backoff.begin("correct horse battery")
    assert "horse" not in str(rows(accounts, "name"))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("testclient", "testclient"),
    ],
)  # fmt: skip
def test_a_household_is_one(address, network):
    assert network_of(address) == network
