"""`alerts test`, and what status says of a channel that takes nothing."""

from __future__ import annotations

import pytest

from backup_scp.machine.clock import now
from backup_scp.node.alarms import alert_thread
from backup_scp.node.opening import OpenStores
from backup_scp.node.settings import load
from backup_scp.ports import DrillResult
from backup_scp.watch.alert_state import Alarm, AlertFile, ChannelTrouble, SentAlert, ToldAlarm
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
        read = load(settings(f'webhook = "{hook.url}"'))
        with OpenStores(read) as storage:
            thread = alert_thread(read, storage)
            assert thread is not None
            thread.look()
    assert [body["subject"] for body in hook.bodies] == ["BACKUP_SCP: drill of copy drive passed"]


@pytest.mark.parametrize(("days", "severity"), [(0, "note"), (2, "act")])
def test_status_tells_of_a_channel_that_takes_nothing(run, stored, settings, clock, days, severity):
    file = AlertFile(settings("").parent)
    file.state.troubles["e-mail"] = ChannelTrouble(clock(), "The mail server is off")
    file.save()
    settings('webhook = "https://chat.example/x"')
    clock.jump(days=days)
    (found,) = (each for each in run("status", "--json").json["findings"] if each["what"] == "alerts")
    assert found["severity"] == severity
    assert "The mail server is off" in found["sentence"]
    file.state.troubles.clear()
    file.save()
    assert not [each for each in run("status", "--json").json["findings"] if each["what"] == "alerts"]


def test_the_heartbeat_is_called_too_and_one_channel_can_be_chosen(run, settings):
    with web_server() as hook:
        settings(f'webhook = "{hook.url}"', f'heartbeat = "{hook.url}/beat"')
        assert run("alerts", "test").out == "webhook: sent\nheartbeat: sent\n"
        assert run("alerts", "test", "--channel", "heartbeat").out == "heartbeat: sent\n"
        told = run("alerts", "test", "--channel", "e-mail")
    assert hook.paths == ["/hooks/secret-token", "/hooks/secret-token/beat", "/hooks/secret-token/beat"]
    assert told.code == 1
    assert "[alerts] has no channel e-mail; it has webhook, heartbeat" in told.err


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['heartbeat = "http://hc.example/x"'], "heartbeat: write https://HOST/PATH"),
        (['webhook = "https://ntfy.example/"', 'webhook_form = "ntfy"'], "for ntfy write https://HOST/TOPIC"),
        (['webhook_form = "icq"'], "webhook_form"),
    ],
)
def test_a_heartbeat_or_form_that_cannot_work_is_told(run, settings, lines, words):
    settings(*lines)
    told = run("alerts", "test")
    assert told.code == 1
    assert words in told.err


def test_the_list_says_what_was_told_and_what_waits(run, home, stored, settings, clock):
    settings('webhook = "https://chat.example/x"', *mail_at(25))
    at = clock()
    file = AlertFile(home)
    told = {"webhook": ToldAlarm(at, "1")}
    file.state.alarms = [
        Alarm(("disk", "low", ""), "Only 1 GB are left", "make room", "room again", at, at, is_due=True, told=told),
        Alarm(("index", "", ""), "It does not answer", "", "it answers", at, at, is_due=True, ended_at=at),
        Alarm(("node", "deaf", ""), "It is deaf", "", "it hears", at, at),
    ]
    file.state.troubles["e-mail"] = ChannelTrouble(at, "The mail server is off")
    file.state.add_sent(SentAlert(at, "webhook", "CLINIC: Only 1 GB", is_alarm=True))
    file.save()

    said = run("alerts", "list")

    assert said.code == 0
    assert "Only 1 GB are left (told by webhook; waits for e-mail)" in said.out
    assert "It does not answer (not told yet)" in said.out
    assert "It is deaf" not in said.out
    assert "The mail server is off" in said.out
    assert "webhook  CLINIC: Only 1 GB" in said.out
    assert "by webhook: CLINIC: Only 1 GB" in run("status").out
    as_json = run("alerts", "list", "--json").json
    assert [each["waits_for"] for each in as_json["alarms"]] == [["e-mail"], ["e-mail", "webhook"]]
    assert as_json["sent"][0]["subject"] == "CLINIC: Only 1 GB"


def test_the_list_of_a_node_that_tells_nobody(run, home):
    said = run("alerts", "list")
    assert (said.code, said.out.splitlines()[0]) == (0, "[alerts] names no channel: nobody is told")
