"""Two clinics send the same image: each has a file of its own, which says when it came from there."""

from __future__ import annotations

import pytest

from backup_scp.dicom.attributes import Level
from backup_scp.dicom.query.information_model import Query
from backup_scp.ports import AddResult, SiteScope
from backup_scp.services.rebuild import rebuild
from tests.samples import dx, encode
from tests.stored import stored_in

SAMPLE = encode(dx())
NORTH, SOUTH, NO_NAME = SiteScope.of(["north"]), SiteScope.of(["south"]), SiteScope.of([""])


@pytest.fixture
def stored(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored


def seen(stored, scope):
    return stored.index.seen_by(scope).retrieve(Query(Level.STUDY))


def test_each_clinic_has_what_it_was_told_is_stored(stored):
    first = stored.put(SAMPLE, 1, site="north")
    second = stored.put(SAMPLE, 2, site="south")
    assert (first.admission, second.admission) == (AddResult.NEW, AddResult.NEW)
    for accepted, scope in ((first, NORTH), (second, SOUTH)):
        assert [held.location for held in seen(stored, scope)] == [accepted.location]
        assert scope.holds(stored.archive.read(accepted.location).arrival.site)
        assert stored.archive.verify(accepted.location, SAMPLE.sha256)


def test_a_re_send_meets_the_file_of_its_own_clinic(stored):
    places = {site: stored.put(SAMPLE, n, site=site).location for n, site in enumerate(("", "north", "south"))}
    again = {site: stored.put(SAMPLE, 9, site=site) for site in places}
    assert {site: accepted.location for site, accepted in again.items()} == places
    assert {accepted.admission for accepted in again.values()} == {AddResult.HELD}
    assert len(list(stored.archive.locations())) == 3


def test_a_re_send_repairs_the_file_of_its_own_clinic(stored):
    places = {site: stored.put(SAMPLE, n, site=site).location for n, site in enumerate(("north", "south"))}
    for site, location in places.items():
        stored.flip(location)
        assert stored.put(SAMPLE, 9, site=site).repaired
        assert stored.archive.verify(location, SAMPLE.sha256)


def test_a_damaged_header_of_one_clinic_is_not_replaced_by_another(stored):
    north = stored.put(SAMPLE, 1, site="north").location
    path = stored.path(north)
    stored.flip(north, 140)
    content = path.read_bytes()
    south = stored.put(SAMPLE, 2, site="south").location
    assert (path.read_bytes(), south != north) == (content, True)
    assert stored.put(SAMPLE, 3, site="north").repaired


def test_a_rebuild_gives_the_same(tmp_path, stored):
    for n, site in enumerate(("north", "south", "")):
        stored.put(SAMPLE, n, site=site)
    before = {str(scope): seen(stored, scope) for scope in (NORTH, SOUTH, NO_NAME)}
    assert all(len(held) == 1 for held in before.values())
    (tmp_path / "index.sqlite").rename(tmp_path / "old.sqlite")
    with stored_in(tmp_path) as again:
        rebuild(again.archive, again.index, lambda _: None)
        assert {str(scope): seen(again, scope) for scope in (NORTH, SOUTH, NO_NAME)} == before
