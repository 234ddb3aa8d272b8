"""The alarm stops copying before a copy is touched, and only then."""

from __future__ import annotations

import pytest

from backup_scp.ports import CopyTrouble, VerificationResult
from backup_scp.watch.alarm import SEEN, go_on
from tests.processes import wait_until
from tests.samples import encode, replace, secondary_capture
from tests.services.test_copying import files, tiny
from tests.watch.copy_threads import (
    MOST_CHANGED,
    MOST_LOST,
    alarm_of,
    has_everything,
    lines,
    state,
    trouble,
    wait_for_looks,
)

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"

pytestmark = pytest.mark.usefixtures("without_pauses")


def changed(number, comment):
    return encode(replace(secondary_capture(study=f"storm.{number}"), PatientComments=comment))


def test_thirty_changed_studies_stop_it_until_a_person_has_looked(stored, place, under_way, caplog):
    for number in range(MOST_CHANGED):
        stored.put(changed(number, "before"), number)
    under_way()
    wait_until(lambda: len(place.objects) == MOST_CHANGED)
    place.away = "not now"  # so that it stops at the thirtieth, not somewhere before
    for number in range(MOST_CHANGED):
        stored.put(changed(number, "after"), 100 + number)
    wait_until(lambda: "Stopped by an alarm" in trouble(stored))
    place.away = ""
    before = place.entered
    stored.put(tiny(99), 500)
    wait_for_looks(stored, 5)
    assert (place.entered, len(place.objects)) == (before, MOST_CHANGED), "the copy was touched"
    assert "Stopped by an alarm" in trouble(stored)
    assert state(stored).trouble_kind is CopyTrouble.ALARM
    assert len([line for line in lines(caplog) if "alarm" in line]) == 1
    go_on(stored.index)
    wait_until(lambda: has_everything(stored, place))
    wait_until(lambda: not trouble(stored))


def test_resends_with_equal_elements_in_another_transfer_syntax_are_no_flood(stored, place, under_way):
    for number in range(MOST_CHANGED + 5):
        for syntax in (EXPLICIT, IMPLICIT):
            stored.put(encode(secondary_capture(study=f"storm.{number}"), syntax), 2 * number)
    assert alarm_of(stored).sentence == ""
    under_way()
    wait_until(lambda: len(place.objects) == 2 * (MOST_CHANGED + 5))


def test_files_that_are_changed_in_the_archive_stop_it(stored, place, under_way):
    """By the sample alone: nobody has read these files in full."""
    locations = [stored.put(tiny(number), number).location for number in range(20)]
    under_way()
    wait_until(lambda: state(stored) and state(stored).complete_at)
    wait_for_looks(stored, 2)  # the turn is over, and nothing heals what is changed now
    before = dict(place.objects)
    for location in locations[: MOST_LOST + 5]:
        path = stored.path(location)
        path.chmod(0o600)
        path.write_bytes(bytes(byte ^ 0x5A for byte in path.read_bytes()))
    wait_until(lambda: "stored images were changed or are gone" in trouble(stored))
    stored.put(tiny(99), 99)
    wait_for_looks(stored, 5)
    assert place.objects == before


def test_nine_lost_images_are_no_alarm_and_are_healed(stored, place, under_way, monkeypatch):
    monkeypatch.setattr("backup_scp.watch.copy_thread._REACHED_EVERY_S", 0.0)
    locations = [stored.put(tiny(number), number).location for number in range(MOST_LOST)]
    under_way()
    wait_until(lambda: has_everything(stored, place))
    whole = files(stored)
    for location in locations[1:]:
        stored.path(location).unlink()
    wait_until(lambda: set(whole) <= set(files(stored)), what="all images healed")


def test_the_alarm_counts_what_is_lost_beside_many_flagged_images(stored, monkeypatch):
    for number in range(MOST_LOST):
        location = stored.put(tiny(number), number).location
        stored.path(location).unlink()
    monkeypatch.setattr(type(stored.index), "remarks", lambda *_: [])  # those that are flagged were newer
    alarm = alarm_of(stored)
    wait_until(lambda: "10 stored images" in alarm.sentence)


def test_after_healing_the_alarm_counts_from_there(stored):
    alarm = alarm_of(stored)
    locations = [stored.put(tiny(number), number).location for number in range(2 * MOST_LOST)]
    first, second = locations[:MOST_LOST], locations[MOST_LOST:]
    kept = {location: stored.path(location).read_bytes() for location in locations}
    lose(stored, first)
    wait_until(lambda: alarm.sentence)
    go_on(stored.index)
    wait_until(lambda: not alarm.sentence)
    for location in first:
        (stored.archive._root / location).write_bytes(kept[location])
    stored.index.record_verification([VerificationResult(location) for location in first])
    wait_until(lambda: not alarm.sentence and stored.index.tasks()[SEEN].done == 0)
    lose(stored, second)
    wait_until(lambda: alarm.sentence)


def lose(stored, locations):
    for location in locations:
        stored.path(location).unlink()
