"""What status says of further copies, and whether a person must act."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from backup_scp.node.settings import Settings
from backup_scp.node.settings.sections import CommitmentSettings, CopySettings
from backup_scp.ports import CopyState, CopyTrouble
from tests.node.health.conftest import NOW

DRIVE = CopySettings(name="drive", url="file:///media/x-rays")
CLOUD = CopySettings(name="cloud", url="s3://bucket/x-rays")
NEAR = CopySettings(name="near", url="file:///mnt/x-rays")
SOON, LONG_AGO = NOW + timedelta(minutes=1), NOW - timedelta(days=9)
ALARM, AWAY, FAULT = CopyTrouble.ALARM, CopyTrouble.AWAY, CopyTrouble.FAULT
DESPITE = "backup-scp copies sync --despite-alarm"


def state(name="drive", **facts) -> CopyState:
    return CopyState(**{"name": name, "medium": "", "seen_at": NOW} | facts)


def trouble(kind, sentence="Something", since=NOW) -> dict:
    return {"trouble": sentence, "trouble_kind": kind, "trouble_since": since}


@pytest.fixture
def told(found):
    """Return the severity, sentence and fix of each finding about copies with these states."""

    def told(*states, copies=(DRIVE,), needed=(0, 0)) -> list[tuple[str, str, str]]:
        commitment = CommitmentSettings(copies=needed[0], off_site_copies=needed[1])
        settings = Settings(home=Path("/nowhere"), copy=tuple(copies), commitment=commitment)
        listed = found(known={"copies": list(states)}, settings=settings)
        assert {finding.what for finding in listed} <= {"copies"}
        return [(finding.severity, finding.sentence, finding.fix) for finding in listed]

    return told


def test_a_copy_that_is_well(told):
    assert told(state()) == []


@pytest.mark.parametrize("states", [[], [state(seen_at=None)]])
def test_a_copy_that_was_never_reached(told, states):
    assert told(*states) == [("act", "Copy drive was never reached", "backup-scp copies sync drive")]


def test_why_it_was_never_reached(told):
    (one,) = told(state(seen_at=None, **trouble(FAULT, "The key is wrong")))
    assert one == ("act", "Copy drive was never reached: The key is wrong", "backup-scp copies sync drive")


@pytest.mark.parametrize("copy", [DRIVE, CLOUD])
@pytest.mark.parametrize("seen_at", [None, NOW, LONG_AGO])
@pytest.mark.parametrize("since", [SOON, LONG_AGO])
def test_an_alarm_is_told_always_and_first_asks_for_a_look(told, copy, seen_at, since):
    of_it = state(copy.name, seen_at=seen_at, due=3, oldest_due=LONG_AGO, **trouble(ALARM, "Stopped", since))
    ((severity, sentence, fix),) = told(of_it, copies=[copy])
    assert (severity, sentence) == ("act", f"Copy {copy.name}: Stopped")
    assert fix.startswith("look ")
    assert fix.endswith(DESPITE)


@pytest.mark.parametrize("since", [SOON, LONG_AGO])
def test_a_drive_that_is_away_for_some_days_is_usual(told, since):
    assert told(state(due=9, oldest_due=LONG_AGO, **trouble(AWAY, "Not connected", since))) == []


@pytest.mark.parametrize("since", [SOON, LONG_AGO])
@pytest.mark.parametrize(("copy", "kind"), [(DRIVE, FAULT), (CLOUD, FAULT), (CLOUD, AWAY)])
def test_other_trouble_is_told_at_once(told, copy, kind, since):
    """Also of a drive that was here before: it may be the drive of another archive."""
    of_it = state(copy.name, **trouble(kind, "It is full", since))
    assert told(of_it, copies=[copy]) == [
        ("act", f"Copy {copy.name}: It is full", f"backup-scp copies sync {copy.name}")
    ]


def test_a_drive_that_is_away_too_long(told):
    ((severity, sentence, fix),) = told(state(seen_at=LONG_AGO, **trouble(AWAY, "Not connected")))
    assert (severity, fix) == ("act", "connect it")
    assert sentence.startswith("Copy drive: No drive of it was here since 2026-04-25")
    assert sentence.endswith(". Not connected")


def test_a_place_that_is_not_reached_for_long(told):
    ((severity, sentence, fix),) = told(state("cloud", seen_at=LONG_AGO), copies=[CLOUD])
    assert (severity, fix) == ("act", "backup-scp copies sync cloud")
    assert sentence.startswith("Copy cloud: It was not reached since 2026-04-25")


def test_of_drives_that_take_turns_one_was_here(told):
    assert told(state(medium="A", seen_at=LONG_AGO, failed=3, due=3), state(medium="B")) == []


def test_it_may_be_away_for_ever(told):
    assert told(state(seen_at=LONG_AGO), copies=[CopySettings(name="drive", url="file:///media", away_days=0)]) == []


def test_images_that_fail(told):
    (one,) = told(state(failed=2, due=2, oldest_due=LONG_AGO, error="503"))
    assert one == ("act", "Copy drive: 2 images failed and tried again: 503", "backup-scp copies sync drive")


def test_a_copy_that_is_behind(told):
    ((severity, sentence, fix),) = told(state(due=2, oldest_due=LONG_AGO))
    assert (severity, fix) == ("note", "backup-scp copies sync drive")
    assert sentence.startswith("Copy drive is behind: 2 images due, the oldest received 2026-04-25")
    assert told(state(due=2, oldest_due=NOW - timedelta(days=1))) == []


def test_images_that_were_found_damaged_there(told):
    (one,) = told(state(damaged=1))
    sentence = "Copy drive: 1 image found damaged or missing there; written again"
    assert one == ("note", sentence, "backup-scp copies sync drive")


# ------------------------------------------------------------------------------------------------- too few for a commit

ALL = (DRIVE, CLOUD, NEAR)


@pytest.mark.parametrize(
    ("due", "needed", "said"),
    [
        ((0, 0, 0), (3, 1), []),
        ((0, 7, 0), (2, 0), []),
        ((9, 9, 9), (0, 0), []),
        ((0, 7, 4), (2, 0), ["4 images at fewer than 2 copies"]),
        ((5, 7, 4), (1, 0), ["4 images at fewer than 1 copy"]),
        ((0, 7, 0), (0, 1), ["7 images at fewer than 1 off-site copy"]),
        ((1, 7, 1), (1, 1), ["1 image at fewer than 1 copy", "7 images at fewer than 1 off-site copy"]),
        ((0, None, 0), (2, 0), []),
        ((0, None, 0), (3, 0), ["Not every image is at 3 copies: one was never reached"]),
        ((0, None, 0), (2, 1), ["Not every image is at 1 off-site copy: one was never reached"]),
    ],
)
def test_green_only_when_so_many_copies_have_everything(told, due, needed, said):
    states = [state(copy.name, due=number) for copy, number in zip(ALL, due, strict=True) if number is not None]
    sentences = [
        (severity, sentence.partition(";")[0])
        for severity, sentence, _ in told(*states, copies=ALL, needed=needed)
        if " was never reached" not in sentence or "Not every" in sentence
    ]
    assert sentences == [("act", sentence) for sentence in said]


@pytest.mark.parametrize(("minutes", "is_told"), [(0, False), (14, False), (16, True), (None, True), (-9, False)])
def test_an_image_that_has_just_been_received_may_lack_copies(told, minutes, is_told):
    """None: a clock was ahead when it was received."""
    oldest_due = None if minutes is None else NOW - timedelta(minutes=minutes)
    assert bool(told(state(due=3, oldest_due=oldest_due), needed=(1, 0))) == is_told


def test_one_drive_of_several_that_lacks_only_what_is_new_is_enough(told):
    new = state(medium="B", due=7, oldest_due=NOW - timedelta(minutes=1))
    assert told(state(medium="A", due=7, oldest_due=LONG_AGO, seen_at=LONG_AGO), new, needed=(1, 0)) == []


def test_an_alarm_of_a_place_is_told_whatever_else_is_well(told):
    sentence = "s3://bucket: names were deleted by somebody"
    (one,) = told(state("cloud", alarm=sentence), copies=(CLOUD,))
    assert one == ("act", f"Copy cloud: {sentence}", "afterwards  backup-scp copies verify cloud")


def test_of_drives_that_take_turns_one_with_everything_is_enough(told):
    assert told(state(medium="A", due=7), state(medium="B"), needed=(1, 0)) == []


def test_a_copy_that_is_in_the_settings_no_more_does_not_count(told):
    (one,) = told(state(due=2), state("old"), needed=(1, 0))
    assert one[1].startswith("2 images at fewer than 1 copy")
