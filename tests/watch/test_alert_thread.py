"""What is told is told once by each channel, again until it is taken, also after a restart, and names no image."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from backup_scp.errors import AlertNotSent, InvalidSettings, Unavailable
from backup_scp.machine import clock
from backup_scp.ports import AlarmCondition, Alert, DrillKind, DrillProblem, DrillResult, SeenConditions
from backup_scp.watch import alert_thread
from backup_scp.watch.alert_events import leave_event
from backup_scp.watch.alert_state import CALM, FORGOTTEN, read_alert_state
from backup_scp.watch.alert_thread import AlertThread
from backup_scp.watch.alert_words import REMINDED, WORSE, drill_alert
from tests.stored import stored_in

UID = "1.2.840.10008.123456789"
NOTHING = SeenConditions(())


class Channel:
    """It takes alerts, or says why not."""

    def __init__(self, name: str, trouble: str = "") -> None:
        self.name, self.trouble = name, trouble
        self.taken: list[Alert] = []

    def send(self, alert: Alert) -> None:
        if self.trouble:
            raise AlertNotSent(self.trouble)
        self.taken.append(alert)


@pytest.fixture
def index(tmp_path):
    with stored_in(tmp_path) as stored:
        yield stored.index


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(alert_thread, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr(alert_thread, "_BETWEEN_S", 0)


def result(copy: str = "drive", *, hours: int = 0, problems: int = 0) -> DrillResult:
    at = clock.now() + timedelta(hours=hours)
    found = tuple(DrillProblem(DrillKind.DAMAGED, UID, f"Image {UID} is damaged") for _ in range(problems))
    more: dict[str, Any] = {
        "tried": 50,
        "came_back": 50 - problems,
        "size_bytes": 412_000_000,
        "decoded": 20,
        "everything_s": 7200.0,
    }
    return DrillResult(copy, at, at, not problems, "id", "blue", problems=found, problem_count=problems, **more)


def thread_of(index, home, *channels: Channel, seen: SeenConditions = NOTHING, **more) -> AlertThread:
    return AlertThread(home, index, lambda: channels, lambda: seen, "CLINIC", **more)


@pytest.fixture
def look(index, tmp_path):
    """Return a function that starts a thread, as after a restart, and looks once."""

    def look(*channels: Channel, seen: SeenConditions = NOTHING) -> None:
        thread_of(index, tmp_path, *channels, seen=seen).look()

    return look


@pytest.fixture
def troubles(tmp_path):
    """Return a function that reads what is noted of the channels."""
    return lambda: {name: trouble.sentence for name, trouble in read_alert_state(tmp_path).troubles.items()}


def test_each_result_is_told_once_by_each_channel(index, look):
    mail, hook = Channel("e-mail"), Channel("webhook")
    index.drills.record(result())
    for _ in range(2):
        look(mail, hook)
    index.drills.record(result(hours=1, problems=2))
    index.drills.record(result("cloud"))
    look(mail, hook)
    told = [
        "CLINIC: drill of copy cloud (blue) passed",
        "CLINIC: drill of copy drive (blue) FAILED with 2 problems",
        "CLINIC: drill of copy drive (blue) passed",
    ]
    for channel in (mail, hook):
        assert sorted(alert.subject for alert in channel.taken) == told
        assert [alert.is_alarm for alert in channel.taken].count(True) == 1


def test_what_a_channel_does_not_take_is_noted_and_sent_again(index, look, troubles):
    mail, hook = Channel("e-mail", "The mail server is off"), Channel("webhook")
    index.drills.record(result())
    look(mail, hook)
    look(mail, hook)
    assert troubles() == {"e-mail": "The mail server is off"}
    assert (len(mail.taken), len(hook.taken)) == (0, 1)

    mail.trouble = ""
    look(mail, hook)

    assert troubles() == {}
    assert (len(mail.taken), len(hook.taken)) == (1, 1)


def test_a_channel_in_trouble_is_given_time(index, tmp_path, troubles, monkeypatch):
    monkeypatch.setattr(alert_thread, "_FIRST_PAUSE_S", 3600)
    mail = Channel("e-mail", "off")
    index.drills.record(result())
    thread = thread_of(index, tmp_path, mail)
    thread.look()
    mail.trouble = ""
    thread.look()
    assert mail.taken == []
    assert troubles() == {"e-mail": "off"}


def test_a_mail_server_that_is_slow_does_not_hold_up_the_end_of_the_node(index, tmp_path, monkeypatch):
    monkeypatch.setattr(alert_thread, "_GRACE_S", 0.01)
    begun, goes_on = threading.Event(), threading.Event()

    class Slow(Channel):
        def send(self, alert: Alert) -> None:
            begun.set()
            goes_on.wait()
            super().send(alert)

    slow = Slow("e-mail")
    index.drills.record(result())
    thread = thread_of(index, tmp_path, slow, look_every_s=0)
    thread.start()
    assert begun.wait(60)
    thread.stop()
    goes_on.set()
    thread._thread.join()
    assert len(slow.taken) == 1
    assert read_alert_state(tmp_path).sent == []  # the next start tells it again


def test_settings_that_cannot_be_used_are_noted_until_they_can(index, tmp_path, look, troubles):
    def channels():
        raise InvalidSettings("[alerts], smtp_password_file: secret cannot be read")

    AlertThread(tmp_path, index, channels, lambda: NOTHING, "CLINIC").look()
    assert "secret cannot be read" in troubles()[""]
    look()
    assert troubles() == {}


@pytest.mark.parametrize("problems", [0, 2])
def test_it_says_what_happened_and_names_no_image(problems):
    alert = drill_alert(result(problems=problems), "CLINIC")
    assert UID not in "".join(map(str, alert))
    words = ["damaged (2)", "backup-scp status"] if problems else ["50 of 50 images", "412.0 MB", "pixels of 20", "2 h"]
    for word in words:
        assert word in alert.text


# -- alarms ------------------------------------------------------------------------------------------------------------

GRACE = timedelta(minutes=15)


def lasts(
    subject: str = "nas", grace: timedelta = GRACE, number: int = 0, sentence: str = "It is away"
) -> SeenConditions:
    key, fix, ended = ("copies", "away", subject), "connect it\nand wait", f"copy {subject} is here"
    return SeenConditions((AlarmCondition(key, sentence, fix, ended, grace, number),))


def both(one: SeenConditions, other: SeenConditions) -> SeenConditions:
    return SeenConditions(one.conditions + other.conditions)


def subjects(channel: Channel) -> list[str]:
    return [alert.subject for alert in channel.taken]


def test_an_alarm_is_told_once_when_it_has_lasted_and_once_when_it_is_over(look, clock):
    mail = Channel("e-mail")
    look(mail, seen=lasts())
    assert mail.taken == []
    clock.jump(minutes=15)
    for _ in range(3):
        look(mail, seen=lasts())
        clock.jump(hours=5)
    assert subjects(mail) == ["CLINIC: It is away"]
    assert "What to do: connect it\nand wait" in mail.taken[0].text
    look(mail)
    for _ in range(3):
        look(mail)
        clock.jump(hours=1)
    assert subjects(mail)[1:] == ["CLINIC: over: copy nas is here"]
    begin, end = mail.taken
    assert (begin.is_alarm, end.is_alarm) == (True, False)
    assert end.answers == (begin.number,)


def test_what_comes_and_goes_is_not_told_and_a_gap_ends_nothing(look, clock):
    mail = Channel("e-mail")
    for _ in range(5):
        look(mail, seen=lasts())
        clock.jump(minutes=5)
        look(mail)
        clock.jump(minutes=5)
    assert mail.taken == []
    look(mail, seen=lasts(grace=timedelta()))
    for _ in range(5):
        look(mail)
        clock.jump(minutes=5)
        look(mail, seen=lasts(grace=timedelta()))
    assert len(mail.taken) == 1
    clock.jump(seconds=CALM.total_seconds())
    look(mail)
    assert len(mail.taken) == 2


def test_a_reminder_comes_after_a_week_and_earlier_when_it_gets_worse(look, clock):
    mail = Channel("e-mail")
    now = timedelta()
    look(mail, seen=lasts(grace=now, number=1))
    clock.jump(hours=23)
    look(mail, seen=lasts(grace=now, number=5))
    assert len(mail.taken) == 1
    clock.jump(seconds=WORSE.total_seconds())
    look(mail, seen=lasts(grace=now, number=4))
    assert subjects(mail)[1:] == ["CLINIC: still: It is away"]
    clock.jump(days=6)
    look(mail, seen=lasts(grace=now, number=4))
    assert len(mail.taken) == 2
    clock.jump(seconds=REMINDED.total_seconds())
    look(mail, seen=lasts(grace=now, number=4))
    assert len(mail.taken) == 3
    assert mail.taken[2].answers == (mail.taken[0].number,)


def test_several_are_one_message(look, clock):
    mail = Channel("e-mail")
    now = timedelta()
    thirty = [lasts(f"drive {n}", now, sentence=f"No {n}") for n in range(30)]
    many = SeenConditions(tuple(each for one in thirty for each in one.conditions))
    look(mail, seen=many)
    assert subjects(mail) == ["CLINIC: 30 alarms"]
    assert "No 19" in mail.taken[0].text
    assert "No 20" not in mail.taken[0].text
    assert "And 10 more" in mail.taken[0].text
    clock.jump(minutes=30)
    look(mail, seen=both(lasts("drive 0", now), lasts("new", now)))
    assert subjects(mail)[1:] == ["CLINIC: 1 alarm, 29 over"]


def test_what_comes_at_once_after_a_message_waits_for_the_next(index, tmp_path, monkeypatch):
    monkeypatch.setattr(alert_thread, "_BETWEEN_S", 3600)
    mail, seen = Channel("e-mail"), lasts("one", timedelta())
    thread = AlertThread(tmp_path, index, lambda: [mail], lambda: seen, "CLINIC", ask_every_s=0)
    thread.look()
    seen = both(seen, lasts("two", timedelta()))
    thread.look()
    assert len(mail.taken) == 1
    monkeypatch.setattr(alert_thread, "_BETWEEN_S", 0)
    thread._free_at.clear()
    thread.look()
    assert len(mail.taken) == 2


def test_a_channel_that_was_down_is_told_what_was_meanwhile(look, clock):
    mail, hook = Channel("e-mail", "off"), Channel("webhook")
    look(mail, hook, seen=lasts(grace=timedelta()))
    clock.jump(hours=1)
    look(mail, hook)
    mail.trouble = ""
    look(mail, hook)
    assert subjects(hook) == ["CLINIC: It is away", "CLINIC: over: copy nas is here"]
    assert subjects(mail) == ["CLINIC: over again: It is away"]
    assert "Now: copy nas is here" in mail.taken[0].text


def test_a_channel_that_stays_down_holds_no_alarm_for_ever(look, clock, tmp_path):
    mail = Channel("e-mail", "off")
    look(mail, seen=lasts(grace=timedelta()))
    clock.jump(hours=1)
    look(mail)
    assert len(read_alert_state(tmp_path).alarms) == 1
    clock.jump(seconds=FORGOTTEN.total_seconds())
    look(mail)
    assert read_alert_state(tmp_path).alarms == []


def test_what_cannot_be_looked_for_is_not_over(look, clock):
    mail = Channel("e-mail")
    look(mail, seen=lasts(grace=timedelta()))
    clock.jump(days=1)
    look(mail, seen=SeenConditions((), frozenset({"copies"})))
    clock.jump(minutes=1)
    look(mail, seen=lasts())
    assert len(mail.taken) == 1


def test_it_is_told_without_an_index(index, tmp_path):
    index.close()
    (tmp_path / "index.sqlite").write_bytes(bytes(8192))
    with pytest.raises(Unavailable):
        index.drills.latest()
    mail = Channel("e-mail")
    thread_of(index, tmp_path, mail, seen=lasts(grace=timedelta())).look()
    assert len(mail.taken) == 1


def test_a_clock_that_was_wrong_holds_no_alarm_back(look, clock):
    mail = Channel("e-mail")
    clock.jump(days=4000)
    look(mail, seen=lasts())
    clock.jump(days=-4000)
    look(mail, seen=lasts())
    assert len(mail.taken) == 1
    look(mail)
    clock.jump(minutes=11)
    look(mail)
    assert len(mail.taken) == 2


def test_what_happened_is_told_once(look, tmp_path):
    mail = Channel("e-mail")
    for _ in range(25):
        leave_event(tmp_path, "Process 1 ended")
    assert len(list(tmp_path.glob("event-*"))) == 20
    for _ in range(2):
        look(mail)
    assert subjects(mail) == ["CLINIC: Process 1 ended"]
    assert list(tmp_path.glob("event-*")) == []


def test_a_file_that_cannot_be_read_or_written_stops_no_alarm(look, tmp_path, caplog):
    mail = Channel("e-mail")
    (tmp_path / "alerts.json").write_text('{"alarms": [')
    look(mail, seen=lasts(grace=timedelta()))
    assert "cannot be read" in caplog.text
    (tmp_path / "alerts.json").unlink()
    (tmp_path / "alerts.json").mkdir()
    look(mail, seen=lasts(grace=timedelta()))
    assert len(mail.taken) == 2
    assert "cannot be written" in caplog.text


def test_no_message_has_a_uid_or_a_persons_name(look):
    mail = Channel("e-mail")
    sentence = f"Image {UID} of CANARY^ANNA cannot be read from 192.0.2.17, version 1.2.3"
    look(mail, seen=lasts(grace=timedelta(), sentence=sentence))
    said = mail.taken[0].subject + mail.taken[0].text
    assert UID not in said
    assert "CANARY" not in said
    assert "ANNA" not in said
    assert "from 192.0.2.17, version 1.2.3" in said
