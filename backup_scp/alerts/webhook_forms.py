"""What a webhook is sent: our own JSON, or what ntfy, Teams and Slack ask for.

No form lets a sentence become markup: a name in it could be a link, or call everybody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from backup_scp.ports import Alert

_NTFY_BYTES = 4000  # of 4,096: a longer message becomes an attachment
_TEAMS_BYTES, _TEAMS_LINES = 8_000, 100  # of 28 KB for the whole message: each line takes 75 bytes more
_SLACK_BYTES = 4_000
_HIGH, _USUAL = 4, 3


def _own(url: str, alert: Alert) -> tuple[str, Mapping[str, Any]]:
    body = {
        "text": f"{alert.subject}\n{alert.text}",  # what chats show
        "kind": alert.kind,
        "node": alert.node,
        "at": alert.at.isoformat(),
        "is_alarm": alert.is_alarm,
        "subject": alert.subject,
    }
    return url, body


def _ntfy(url: str, alert: Alert) -> tuple[str, Mapping[str, Any]]:
    """Publish as JSON, which goes to the server's root and names the topic (docs.ntfy.sh/publish)."""
    parts = urlsplit(url)
    root, _, topic = parts.path.rpartition("/")
    body = {
        "topic": topic,
        "title": alert.subject,
        "message": _cut(alert.text, _NTFY_BYTES),
        "priority": _HIGH if alert.is_alarm else _USUAL,
        "tags": ["warning" if alert.is_alarm else "white_check_mark"],
    }
    return urlunsplit(parts._replace(path=f"{root}/")), body


def _teams(url: str, alert: Alert) -> tuple[str, Mapping[str, Any]]:
    """Return an Adaptive Card, as a workflow of Teams takes it; the runs of a RichTextBlock are no Markdown."""
    colour = "Attention" if alert.is_alarm else "Good"
    lines = [line for line in _cut(alert.text, _TEAMS_BYTES).splitlines() if line]
    lines[_TEAMS_LINES:] = ["…"] * (len(lines) > _TEAMS_LINES)
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [_rich(alert.subject, weight="Bolder", size="Medium", color=colour), *map(_rich, lines)],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return url, {"type": "message", "attachments": [{"contentType": kind, "contentUrl": None, "content": card}]}


def _rich(text: str, **style: str) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **style}]}


def _slack(url: str, alert: Alert) -> tuple[str, Mapping[str, Any]]:
    """Return a message of an incoming webhook, whose three control characters are escaped; no Markdown, no previews."""
    text = _cut(f"{alert.subject}\n{alert.text}", _SLACK_BYTES)
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    return url, {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def _cut(text: str, most_bytes: int) -> str:
    """Return the beginning of a text that fits, and say that there is more."""
    if len(text.encode()) <= most_bytes:
        return text
    return text.encode()[: most_bytes - 4].decode(errors="ignore") + "…"


FORMS: Mapping[str, Callable[[str, Alert], tuple[str, Mapping[str, Any]]]] = {
    "json": _own,
    "ntfy": _ntfy,
    "teams": _teams,
    "slack": _slack,
}


def posted(form: str, url: str, alert: Alert) -> tuple[str, bytes]:
    """Return to which URL what is posted."""
    where, body = FORMS[form](url, alert)
    return where, json.dumps(body, ensure_ascii=False).encode()
