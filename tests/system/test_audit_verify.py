"""The audit log of a real node, checked by the command: whole, after a kill, and changed by hand."""

from __future__ import annotations

import json

from tests.processes import wait_until
from tests.samples import dx, encode
from tests.system import raw_sender


def test_a_change_by_hand_is_found(node):
    raw_sender.send(node, [encode(dx())])
    log = node.home / "audit"
    wait_until(lambda: any("110104" in file.read_text() for file in log.glob("audit-*.log")), what="the stored image")
    node.kill()
    node.start()
    node.stop()

    assert "as they were written" in node.cli("audit", "verify").stdout
    found = json.loads(node.cli("audit", "verify", "--json").stdout)
    assert found["records"] > 5
    assert found["signatures"] >= 1
    assert (log / "key.pem").stat().st_mode & 0o077 == 0

    (file,) = log.glob("audit-*.log")
    file.write_bytes(file.read_bytes().replace(b"110104", b"110112", 1))

    done = node.cli("audit", "verify", exit_code=1)
    assert "THE AUDIT LOG WAS CHANGED" in done.stdout
    assert "the record before it was changed" in done.stdout


def test_a_log_that_cannot_be_written_is_told_and_holds_no_image_up(make_node):
    node = make_node()
    node.home.mkdir(parents=True, exist_ok=True)
    log = node.home / "audit"
    log.write_bytes(b"no folder")
    node.start()
    assert [answer.status for answer in raw_sender.send(node, [encode(dx())])] == [0]
    told = wait_until(lambda: out if "audit log cannot be written" in (out := status(node)) else "", what="status")
    assert "Images are stored as usual" in told

    log.unlink()
    wait_until(lambda: "audit log cannot be written" not in status(node), 60, what="it is written again")
    assert "images received" in node.cli("audit", "show").stdout


def status(node) -> str:
    return node.cli("status", exit_code=None).stdout
