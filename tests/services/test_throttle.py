"""How fast a restore sends, and how long it waits."""

from __future__ import annotations

import pytest

from backup_scp.services.throttle import Patience, Throttle
from tests.shelf import Clock


class TestThrottle:
    def test_the_mean_rate(self):
        clock = Clock()
        throttle = Throttle(2, clock.read, clock.sleep)
        for _ in range(4):
            throttle.wait(1_000_000)
        assert clock.now == pytest.approx(2.0)

    def test_time_that_was_not_used_is_not_saved_up(self):
        clock = Clock()
        throttle = Throttle(1, clock.read, clock.sleep)
        clock.now = 100.0
        throttle.wait(1_000_000)
        assert clock.now == 100.0
        throttle.wait(1_000_000)
        assert clock.now == pytest.approx(101.0)

    def test_none(self):
        clock = Clock()
        Throttle(0, clock.read, clock.sleep).wait(10**12)
        assert clock.now == 0


class TestPatience:
    def test_pauses_grow_and_end(self):
        clock = Clock()
        said: list[str] = []
        patience = Patience(200, said.append, clock.read, clock.sleep)
        while patience.pause("It is off"):
            pass
        assert said[0] == "It is off. Trying again in 1 s, for up to 3 minutes"
        assert [int(sentence.split(" in ")[1].split()[0]) for sentence in said] == [1, 2, 4, 8, 16, 32, 60, 60, 17]
        assert clock.now == 200

    def test_a_success_begins_anew(self):
        clock = Clock()
        said: list[str] = []
        patience = Patience(10, said.append, clock.read, clock.sleep)
        for _ in range(5):
            assert patience.pause("It is full")
            assert patience.pause("It is full")
            patience.over()
            patience.over()
            clock.now += 100
        assert clock.now == 5 * 103
        assert said.count("It continues, after 3 s") == 5

    def test_the_last_moment_is_waited_for_too(self):
        clock = Clock()
        patience = Patience(1.5, clock=clock.read, sleep=clock.sleep)
        while patience.pause("It is off"):
            pass
        assert clock.now == 1.5

    @pytest.mark.parametrize(("wait_s", "words"), [(119.4, "119 s"), (120, "2 minutes"), (3600, "60 minutes")])
    def test_its_limit_in_words(self, wait_s, words):
        assert Patience(wait_s).limit == words

    def test_none(self):
        clock = Clock()
        said: list[str] = []
        assert not Patience(0, said.append, clock.read, clock.sleep).pause("It is off")
        assert (clock.now, said) == (0, [])
