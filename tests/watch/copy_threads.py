"""What the tests of copy threads and of their alarm look at."""

from __future__ import annotations

import logging
from datetime import timedelta

from backup_scp.machine import clock
from backup_scp.watch.alarm import CopyAlarm
from tests.processes import wait_until
from tests.services.test_copying import files

LONG_AGO = -1e9
MOST_CHANGED, MOST_LOST = 30, 10  # as the settings have them


def alarm_of(stored):
    began = clock.now() - timedelta(days=4000)
    return CopyAlarm(
        stored.archive, stored.index, lambda since: stored.index.storms(since or began, MOST_CHANGED), MOST_LOST
    )


def state(stored, name="cloud"):
    return next((one for one in stored.index.copies.states(clock.now()) if one.name == name), None)


def trouble(stored):
    found = state(stored)
    return found.trouble if found else ""


def has_everything(stored, place):
    return sorted(place.objects.values()) == files(stored)


def some_turns(place, count=3):
    """Wait until the thread has reached the place so often again."""
    before = place.entered
    wait_until(lambda: place.entered >= before + count, what="some turns")


def lines(caplog, level=logging.WARNING):
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def noting(calls, real):
    """Return the function, which then notes each call."""

    def noted(*arguments):
        calls.append(True)
        return real(*arguments)

    return noted


def wait_for_looks(stored, count):
    """Wait until alarms were looked for so often."""
    looked: list[bool] = []
    stored.index.storms = noting(looked, stored.index.storms)
    try:
        wait_until(lambda: len(looked) >= count, what="looks for an alarm")
    finally:
        del stored.index.storms
