"""The messages of ntfy, Teams and Slack, as their documents ask for them, posted to a real web server."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from backup_scp.alerts.webhook_channel import WebhookChannel
from backup_scp.alerts.webhook_forms import FORMS, posted
from backup_scp.machine import clock
from backup_scp.node.settings.alerts_section import AlertsSettings
from backup_scp.ports import Alert
from tests.alerts.servers import web_server

MARKUP = "<!channel> *DR_ROOM_1* & [here](https://evil.example) @all"
ALERT = Alert("alarm", "CLINIC", clock.now(), is_alarm=True, subject=f"CLINIC: {MARKUP}", text=f"Ü {MARKUP}\n\nTwo")


def sent(form: str, monkeypatch, alert: Alert = ALERT):
    monkeypatch.setenv("no_proxy", "*")
    with web_server() as hook:
        WebhookChannel(hook.url, form=form).send(alert)
    return hook.paths[0], hook.bodies[0]


def test_ntfy_gets_the_topic_in_the_body_at_its_root(monkeypatch):
    path, body = sent("ntfy", monkeypatch)
    assert path == "/hooks/"
    assert body == {
        "topic": "secret-token",
        "title": ALERT.subject,
        "message": ALERT.text,
        "priority": 4,
        "tags": ["warning"],
    }
    _, over = sent("ntfy", monkeypatch, ALERT._replace(is_alarm=False))
    assert (over["priority"], over["tags"]) == (3, ["white_check_mark"])


def test_ntfy_keeps_what_follows_the_topic():
    assert (
        posted("ntfy", "https://ntfy.example/clinic?auth=QmVhcmVy", ALERT)[0] == "https://ntfy.example/?auth=QmVhcmVy"
    )


def test_teams_gets_an_adaptive_card_without_markdown(monkeypatch):
    path, body = sent("teams", monkeypatch)
    assert path == "/hooks/secret-token"
    assert body["type"] == "message"
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}  # a TextBlock would read Markdown
    runs = [run for block in card["body"] for run in block["inlines"]]
    assert [run["text"] for run in runs] == [ALERT.subject, f"Ü {MARKUP}", "Two"]
    assert runs[0]["color"] == "Attention"


@pytest.mark.parametrize(("colour", "valid"), [("Attention", True), ("Red", False)])
def test_the_card_of_teams_is_what_the_schema_of_adaptive_cards_asks_for(tmp_path, colour, valid):
    body = json.loads(posted("teams", "https://chat.example/x", ALERT)[1])
    card = body["attachments"][0]["content"]
    card["body"][0]["inlines"][0]["color"] = colour
    (tmp_path / "card.json").write_text(json.dumps(card))
    package = find_spec("adaptive_cards")
    assert package is not None
    assert package.origin is not None
    schema = Path(package.origin).with_name("schemas") / f"schema-{card['version']}.json"
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", schema, tmp_path / "card.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) is valid, done.stdout


def test_slack_gets_text_that_calls_nobody(monkeypatch):
    _, body = sent("slack", monkeypatch)
    assert body["mrkdwn"] is False
    assert "<" not in body["text"]
    assert body["text"].startswith("CLINIC: &lt;!channel&gt; *DR_ROOM_1* &amp; [here](https://evil.example) @all\nÜ")


@pytest.mark.parametrize(("form", "most"), [("ntfy", 4096), ("teams", 28 * 1024), ("slack", 40_000)])
def test_a_long_message_stays_below_the_limit(form, most):
    long = ALERT._replace(text="\n".join(f"Ü {number} {MARKUP}" for number in range(2000)))
    _, body = posted(form, "https://chat.example/x", long)
    text = json.loads(body)
    assert len((text["message"] if form == "ntfy" else json.dumps(text, ensure_ascii=False)).encode()) < most
    assert "…" in json.dumps(text, ensure_ascii=False)


def test_the_forms_are_those_of_the_settings():
    assert set(FORMS) == set(get_args(get_type_hints(AlertsSettings)["webhook_form"]))
