from __future__ import annotations

import pytest

from backup_scp.services.backoff import Backoff, network_of


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def backoff(seconds) -> Backoff:
    return Backoff(free=3, first_s=2, longest_s=60, forget_s=3600, most=5, seconds=seconds)


def test_the_wait_grows_to_its_limit(backoff, seconds):
    assert [backoff.begin("anna") for _ in range(3)] == [0, 0, 0]
    waits = []
    for _ in range(7):
        waits.append(backoff.begin("anna"))
        seconds.now += waits[-1]
        assert backoff.begin("anna") == 0
    assert waits == [2, 4, 8, 16, 32, 60, 60]


def test_an_attempt_that_has_to_wait_does_not_count(backoff, seconds):
    for _ in range(3):
        backoff.begin("anna")
    assert {backoff.begin("anna") for _ in range(100)} == {2.0}
    seconds.now += 2
    assert backoff.begin("anna") == 0


def test_a_success_and_time_forget(backoff, seconds):
    for _ in range(3):
        backoff.begin("anna")
        backoff.begin("ben")
    backoff.succeeded("anna")
    assert (backoff.begin("anna"), backoff.begin("ben")) == (0, 2)
    seconds.now += 3601
    assert [backoff.begin("ben") for _ in range(4)] == [0, 0, 0, 2]


def test_its_memory_has_a_limit(backoff):
    for number in range(1000):
        backoff.begin(str(number))
    assert len(backoff._failures) == 5


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("testclient", "testclient"),
    ],
)  # fmt: skip
def test_a_household_is_one(address, network):
    assert network_of(address) == network
