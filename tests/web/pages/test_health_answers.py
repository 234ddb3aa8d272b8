"""What a program that watches learns without a login: well or not, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from backup_scp.web.health_answers import not_ready
from backup_scp.web.pages.backup_state import BackupState, StateFinding, StateNode

WELL = BackupState(ae_title="A", node=StateNode(running=True), findings=[])


def state(**facts: Any) -> BackupState:
    known: dict[str, Any] = {"ae_title": "A", "node": StateNode(running=True), "findings": []}
    return BackupState(**(known | facts))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (WELL, []),
        (state(findings=[StateFinding("copies", "act", "behind", "do")]), []),
        (state(node=StateNode(running=False)), ["node"]),
        (state(findings=[StateFinding("node", "act", "accepts no connections", "restart")]), ["node"]),
        (state(refusing="Archive full"), ["archive"]),
        (state(index_trouble="locked", refusing="read-only"), ["archive", "index"]),
    ],
)
def test_it_is_ready_while_an_image_would_be_stored(seen, words):
    assert not_ready(seen) == words


def test_a_stranger_learns_one_word(make_pages):
    pages = make_pages(address="192.0.2.9")
    assert pages.get("/metrics").status_code != 200
    for path in ("/healthz", "/readyz"):
        answer = pages.get(path)
        assert answer.text in {"ok\n", "not ready: node\n", "not ready: state\n"}
        assert answer.status_code == (200 if answer.text == "ok\n" else 503)
        assert "set-cookie" not in answer.headers
        assert pages.head(path).status_code == answer.status_code
        assert pages.post(path).status_code == 405
