"""Orders of restores, as rows of the index."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from backup_scp.errors import InvalidSelection, ResourceLimitation
from backup_scp.ports import SEES_ALL, SiteScope
from backup_scp.services import restore_jobs
from tests.stored import stored_in

NOW = datetime(2026, 1, 2, 3, tzinfo=UTC)


@pytest.fixture
def index(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored.index


def order(index, number: int = 0, *studies: str) -> restore_jobs.RestoreJob:
    return restore_jobs.order(index, "node", "dx", studies or ("1.2",), NOW + timedelta(minutes=number))


def test_an_order_is_kept_as_it_was_made(index):
    job = order(index, 0, "1.2", "1.3", "1.2")
    assert job.studies == ("1.2", "1.3")
    assert restore_jobs.jobs(index) == [job]
    assert job.is_running


def test_its_end_is_kept_in_its_place(index):
    job = restore_jobs.ended(order(index), "off", NOW + timedelta(hours=1))
    restore_jobs.record(index, job)
    assert restore_jobs.jobs(index) == [job]
    assert not job.is_running


def test_a_new_order_takes_the_place_of_what_ended_first(index):
    orders = [order(index, number) for number in range(restore_jobs.MOST)]
    with pytest.raises(ResourceLimitation, match="running"):
        order(index, 99)
    for number in (7, 3):
        restore_jobs.record(index, restore_jobs.ended(orders[number], "", NOW + timedelta(hours=number)))
    assert order(index, 100).place == orders[3].place
    assert order(index, 101).place == orders[7].place
    assert len(restore_jobs.jobs(index)) == restore_jobs.MOST
    assert restore_jobs.jobs(index)[0].began_at == NOW + timedelta(minutes=101)


def test_a_clinic_cannot_tell_that_another_one_restores(index):
    north, south = SiteScope.of(["north"]), SiteScope.of(["south"])

    def place(scope: SiteScope) -> str:
        return restore_jobs.order(index, "node", "dx", ["1.2"], NOW, scope).place

    alone = place(north).rpartition("-")[2]
    for _ in range(restore_jobs.MOST - 1):
        place(north)
    with pytest.raises(ResourceLimitation):
        place(north)
    assert place(south).rpartition("-")[2] == alone == "0"
    assert place(SEES_ALL) == "restore-0"
    assert {job.scope for job in restore_jobs.jobs(index, south)} == {south}
    assert len(restore_jobs.jobs(index)) == restore_jobs.MOST + 2


@pytest.mark.parametrize("studies", [(), [str(n) for n in range(restore_jobs.MOST_STUDIES + 1)], ["1" * 7001]])
def test_nothing_and_too_much_is_refused(index, studies):
    with pytest.raises(InvalidSelection):
        restore_jobs.order(index, "node", "dx", studies, NOW)
    assert restore_jobs.jobs(index) == []


def test_the_longest_order_fits_into_its_row(index):
    studies = [f"{number:064}" for number in range(restore_jobs.MOST_STUDIES)]
    assert order(index, 0, *studies).studies == restore_jobs.jobs(index)[0].studies == tuple(studies)


class _SeenAtOnce:
    """Two pages look for a free place before either takes one."""

    def __init__(self, index) -> None:
        self._index = index
        self._both = threading.Barrier(2)

    def __getattr__(self, name: str):
        return getattr(self._index, name)

    def tasks(self):
        found = self._index.tasks()
        self._both.wait(60)
        return found


def test_two_orders_at_once_have_two_places(index):
    both = _SeenAtOnce(index)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda study: order(both, 0, study), ("1.2", "1.3")))
    assert {job.place for job in made} == {"restore-0", "restore-1"}
    assert sorted(job.studies for job in restore_jobs.jobs(index)) == [("1.2",), ("1.3",)]
