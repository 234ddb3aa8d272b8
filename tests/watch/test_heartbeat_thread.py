"""The heartbeat is sent while images can be stored, and not otherwise."""

from __future__ import annotations

import threading

from backup_scp.errors import AlertNotSent
from backup_scp.watch import heartbeat_thread
from backup_scp.watch.heartbeat_thread import HeartbeatThread


def test_it_is_sent_only_while_an_image_could_be_stored(caplog):
    calls: list[str] = []
    reasons = ["", "the disk is full", "the disk is full", ""]
    heart = HeartbeatThread(lambda: calls.append("beat"), lambda: reasons[0], 60)
    for expected in (1, 1, 1, 2):
        heart.beat()
        reasons.pop(0)
        assert len(calls) == expected
    assert caplog.text.count("No heartbeat is sent, so that somebody outside notices: the disk is full") == 1


def test_a_call_that_is_not_taken_is_logged_once(caplog):
    def fails() -> None:
        raise AlertNotSent("The heartbeat was not taken by hc.example: off")

    heart = HeartbeatThread(fails, str, 60)
    heart.beat()
    heart.beat()
    assert caplog.text.count("not taken by hc.example") == 1


def test_it_goes_on_after_an_error_that_nobody_foresaw_and_ends_with_the_node(monkeypatch, caplog):
    monkeypatch.setattr(heartbeat_thread, "_GRACE_S", 60)
    again = threading.Event()
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("unforeseen")
        again.set()

    heart = HeartbeatThread(call, str, 0)
    heart.start()
    assert again.wait(60)
    heart.stop()
    assert not heart._thread.is_alive()
    assert "This should not have happened" in caplog.text
