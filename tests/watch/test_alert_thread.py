"""Each result of a drill is told once by each channel, again until it is taken, and names no image."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from backup_scp.errors import AlertNotSent, InvalidSettings
from backup_scp.machine import clock
from backup_scp.ports import ALERTS, Alert, DrillKind, DrillProblem, DrillResult
from backup_scp.watch import alert_thread
from backup_scp.watch.alert_thread import AlertThread, drill_alert
from tests.stored import stored_in

UID = "1.2.840.10008.123456789"


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


def look(index, *channels: Channel) -> None:
    AlertThread(index, lambda: channels, "CLINIC").look()


def test_each_result_is_told_once_by_each_channel(index):
    mail, hook = Channel("e-mail"), Channel("webhook")
    index.drills.record(result())
    for _ in range(2):
        look(index, mail, hook)
    index.drills.record(result(hours=1, problems=2))
    index.drills.record(result("cloud"))
    look(index, mail, hook)
    told = [
        "CLINIC: drill of copy cloud (blue) passed",
        "CLINIC: drill of copy drive (blue) FAILED with 2 problems",
        "CLINIC: drill of copy drive (blue) passed",
    ]
    for channel in (mail, hook):
        assert sorted(alert.subject for alert in channel.taken) == told
        assert [alert.is_alarm for alert in channel.taken].count(True) == 1


def test_what_a_channel_does_not_take_is_noted_and_sent_again(index):
    mail, hook = Channel("e-mail", "The mail server is off"), Channel("webhook")
    index.drills.record(result())
    look(index, mail, hook)
    look(index, mail, hook)
    task = index.tasks()[ALERTS]
    assert task.note == "The mail server is off"
    assert (len(mail.taken), len(hook.taken)) == (0, 1)

    mail.trouble = ""
    look(index, mail, hook)

    assert index.tasks()[ALERTS].note == ""
    assert (len(mail.taken), len(hook.taken)) == (1, 1)


def test_a_channel_in_trouble_is_given_time(index, monkeypatch):
    monkeypatch.setattr(alert_thread, "_FIRST_PAUSE_S", 3600)
    mail = Channel("e-mail", "off")
    index.drills.record(result())
    thread = AlertThread(index, lambda: [mail], "CLINIC")
    thread.look()
    mail.trouble = ""
    thread.look()
    assert mail.taken == []
    assert index.tasks()[ALERTS].note == "off"


def test_a_mail_server_that_is_slow_does_not_hold_up_the_end_of_the_node(index, monkeypatch):
    monkeypatch.setattr(alert_thread, "_GRACE_S", 0.01)
    begun, goes_on = threading.Event(), threading.Event()

    class Slow(Channel):
        def send(self, alert: Alert) -> None:
            begun.set()
            goes_on.wait()
            super().send(alert)

    slow = Slow("e-mail")
    index.drills.record(result())
    thread = AlertThread(index, lambda: [slow], "CLINIC", look_every_s=0)
    thread.start()
    assert begun.wait(60)
    thread.stop()
    goes_on.set()
    thread._thread.join()
    assert len(slow.taken) == 1
    assert ALERTS not in index.tasks()  # the next start tells it again


def test_settings_that_cannot_be_used_are_noted_until_they_can(index):
    def channels():
        raise InvalidSettings("[alerts], smtp_password_file: secret cannot be read")

    AlertThread(index, channels, "CLINIC").look()
    assert "secret cannot be read" in index.tasks()[ALERTS].note
    look(index)
    assert index.tasks()[ALERTS].note == ""


@pytest.mark.parametrize("problems", [0, 2])
def test_it_says_what_happened_and_names_no_image(problems):
    alert = drill_alert(result(problems=problems), "CLINIC")
    assert UID not in "".join(map(str, alert))
    words = ["damaged (2)", "backup-scp status"] if problems else ["50 of 50 images", "412.0 MB", "pixels of 20", "2 h"]
    for word in words:
        assert word in alert.text
