"""A console that is silent for too long is named, with its habit and what to try."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.node.health.alarm_rules import conditions
from backup_scp.node.health.silence_findings import look_for_silences, silences
from backup_scp.node.run_record import Outage
from backup_scp.node.settings import Settings
from backup_scp.node.settings.remote_section import RemoteSettings
from backup_scp.ports import FirstArrival
from backup_scp.watch.silence import Silence
from tests.node.health.conftest import WELL

AT = datetime(2026, 5, 5, 12, 10, tzinfo=UTC)
SETTINGS = Settings(home=WELL.settings.home, remote=(RemoteSettings("dr-1", "DR_ROOM1", "192.0.2.7"),))
ONE = Silence("dr-1", AT, 1200.0, is_closed=False)


def test_it_says_who_since_when_and_what_is_usual():
    (found,) = silences(SETTINGS, [ONE])
    assert found.sentence.startswith("dr-1 has sent nothing since Tue 2026-05-05 ")
    assert found.sentence.endswith("; at this time of the week it usually sends every 20 min")
    assert (found.severity, found.key) == ("act", ("silent", "", "dr-1"))
    assert "backup-scp echo dr-1\n" in found.fix


def test_a_clinic_that_may_be_closed_is_told_so():
    (found,) = silences(SETTINGS, [replace(ONE, is_closed=True)])
    assert found.sentence.endswith("If the clinic is closed, nothing is to do")


def test_one_that_is_not_in_the_settings_is_no_alarm():
    found = list(silences(SETTINGS, [replace(ONE, console="GONE")]))
    assert [each.severity for each in found] == ["note"]
    assert conditions(found).conditions == ()


def test_it_is_told_at_once_and_when_it_ends(found):
    told = conditions(found(settings=SETTINGS, known={"silences": [ONE]})).conditions
    assert [(one.grace, one.ended) for one in told] == [(timedelta(), "dr-1 sends again, or is not expected any more")]


class Listing:
    """Counts how often it is asked."""

    def __init__(self, arrivals: list[FirstArrival]) -> None:
        self.arrivals, self.asked = arrivals, 0

    def first_arrivals(self, since: datetime) -> list[FirstArrival]:
        self.asked += 1
        return [one for one in self.arrivals if one.at >= since]


@pytest.fixture
def listing():
    days = [AT - timedelta(days=back) for back in range(60)]
    return Listing([FirstArrival("dr-1", day, day) for day in days for _ in range(10)])


def test_twelve_weeks_are_not_read_at_each_look(listing):
    now = AT + timedelta(days=5)
    first = look_for_silences(listing, now, ())
    assert [one.console for one in first] == ["dr-1"]
    assert look_for_silences(listing, now, ()) == first
    assert listing.asked == 1


def test_an_outage_of_the_node_is_no_silence_of_a_console(listing):
    now = AT + timedelta(days=5)
    assert look_for_silences(listing, now, [Outage(AT, now - timedelta(hours=1))]) == []
