"""`alerts test`, and what status says of a channel that takes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backup_scp.machine.clock import now
from backup_scp.node.alert_setup import alert_thread
from backup_scp.node.settings import load
from backup_scp.ports import ALERTS, DrillResult, Task
from tests.alerts.servers import mail_server, web_server
from tests.processes import LOOPBACK, free_port


@pytest.fixture
def settings(home, monkeypatch):
    """Return a function that writes `[alerts]`, and returns the file."""
    monkeypatch.setenv("no_proxy", "*")
    file = home / "backup-scp.toml"

    def write(*lines: str):
        file.write_text("[alerts]\n" + "\n".join(lines))
        monkeypatch.setenv("BACKUP_SCP_CONFIG", str(file))
        return file

    return write


def mail_at(port: int) -> list[str]:
    return ['email = ["doe@clinic.example"]', f'smtp = "{LOOPBACK}:{port}"', 'smtp_security = "none"']


def test_each_channel_gets_a_message(run, settings):
    with mail_server() as box, web_server() as hook:
        settings(*mail_at(box.port), f'webhook = "{hook.url}"')
        told = run("alerts", "test")
    assert (told.code, told.out) == (0, "e-mail: sent\nwebhook: sent\n")
    assert len(box.mail) == len(hook.bodies) == 1
    assert hook.bodies[0]["kind"] == "test"


def test_what_one_does_not_take_is_told_and_the_other_gets_it(run, settings):
    with web_server() as hook:
        settings(*mail_at(free_port()), f'webhook = "{hook.url}"')
        told = run("alerts", "test", "--json")
    assert told.code == 1
    assert [(each["channel"], each["sent"]) for each in told.json] == [("e-mail", False), ("webhook", True)]
    assert "Connection refused" in told.json[0]["error"]


def test_without_a_channel_it_says_what_to_set(run, home):
    told = run("alerts", "test")
    assert told.code == 1
    assert "[alerts] names no channel" in told.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('email = ["doe"]', "doe is no e-mail address"),
        ('email = ["doe@clinic.example"]', 'smtp: write "HOST:PORT"'),
        ('webhook = "http://chat.example/x"', "webhook: write https://HOST/PATH"),
        ('email = ["doe@clinic.example"]\nsmtp = "mail:25"\nsmtp_password_file = "none"', "none cannot be read"),
    ],
)
def test_settings_that_cannot_work_are_told(run, settings, line, words):
    settings(line)
    told = run("alerts", "test")
    assert told.code == 1
    assert words in told.err


def test_the_password_comes_from_the_environment(run, settings, monkeypatch):
    monkeypatch.setenv("BACKUP_SCP_SMTP_PASSWORD", "secret")
    with mail_server(asks=True) as box:
        settings(*mail_at(box.port), 'smtp_user = "clinic"')
        assert run("alerts", "test").code == 0


def test_the_node_tells_the_result_of_a_drill(stored, settings):
    at = now()
    stored.index.drills.record(DrillResult("drive", at, at, passed=True, tried=3, came_back=3))
    with web_server() as hook:
        thread = alert_thread(load(settings(f'webhook = "{hook.url}"')), stored.index)
        assert thread is not None
        thread.look()
    assert [body["subject"] for body in hook.bodies] == ["BACKUP_SCP: drill of copy drive passed"]


@pytest.mark.parametrize(("days", "severity"), [(0, "note"), (2, "act")])
def test_status_tells_of_a_channel_that_takes_nothing(run, stored, settings, clock, days, severity):
    task = Task(ALERTS, clock(), position="{}", note="The mail server is off")
    stored.index.record_task(task)
    settings('webhook = "https://chat.example/x"')
    clock.jump(days=days)
    (found,) = (each for each in run("status", "--json").json["findings"] if each["what"] == "alerts")
    assert found["severity"] == severity
    assert "The mail server is off" in found["sentence"]
    stored.index.record_task(replace(task, note=""))
    assert not [each for each in run("status", "--json").json["findings"] if each["what"] == "alerts"]
