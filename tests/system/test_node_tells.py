"""A real node tells real servers that it crashed and what is damaged, and its heartbeat stops with the disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.servers import Hook, Mailbox, mail_server, web_server
from tests.processes import LOOPBACK, Processes, wait_until
from tests.samples import ct_series, dx, encode
from tests.system.contents import archive_of, visible
from tests.system.node import Node

pytestmark = pytest.mark.system


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mail_server() as box:
        yield box


@pytest.fixture
def hook() -> Iterator[Hook]:
    with web_server() as hook:
        yield hook


@pytest.fixture
def node(tmp_path, processes: Processes, box, hook) -> Node:
    alerts: dict[str, Any] = {
        "email": ["it@clinic.example"],
        "smtp": f"{LOOPBACK}:{box.port}",
        "smtp_security": "none",
        "heartbeat": f"{hook.url}/beat",
        "heartbeat_minutes": 0.003,
    }
    node = Node(tmp_path / "node", settings={"alerts": alerts})
    processes.add(node.process)
    return node


def subjects(box: Mailbox) -> list[str]:
    return [mail["Subject"] for mail in box.mail]


def beats(hook: Hook) -> int:
    return len(hook.paths)


def test_damage_and_a_crash_are_told_once_each_over_several_starts(node, box):
    image = encode(dx(number=1))
    node.start()
    assert node.send([image])[0].status == 0
    node.stop()
    (file,) = visible(node)
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1] + b"\7")
    node.cli("verify", exit_code=1)

    node.start()
    wait_until(lambda: len(node.json("alerts", "list")["sent"]) == 1)  # noted, so that it is not told again
    node.kill()
    node.start()
    wait_until(lambda: len(node.json("alerts", "list")["sent"]) == 2)
    node.restart()

    assert [each["told_by"] for each in node.json("alerts", "list")["alarms"]] == [["e-mail"]]
    damaged, crashed = box.mail
    assert damaged["Subject"] == "BACKUP_SCP: DAMAGED: 1 image"
    assert "What to do: send them again from the console" in damaged.get_content()
    assert crashed["Subject"].startswith("BACKUP_SCP: The node ended unexpectedly, after 20")
    said = damaged.as_string() + crashed.as_string()
    for name in (image.dataset().PatientName, image.dataset().PatientID, image.sop_instance_uid):
        assert str(name) not in said


def test_a_process_of_several_that_dies_is_told(node, box):
    node.settings["node"] = {"workers": 2}
    node.start()
    of_node = Path(f"/proc/{node.pid}/task/{node.pid}/children")
    workers = wait_until(lambda: [int(each) for each in of_node.read_text().split()])
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: box.mail, what="the mail of the one that replaces it")
    assert subjects(box) == ["BACKUP_SCP: Process 1 of the node ended by SIGKILL: a new one replaces it"]


def test_the_heartbeat_stops_when_nothing_can_be_stored_and_begins_again(node, hook):
    node.start()
    wait_until(lambda: beats(hook) >= 2)
    assert hook.bodies[0]["text"].startswith("BACKUP_SCP, backup-scp ")
    archive = archive_of(node)
    archive.rename(archive.with_name("away"))
    wait_until(lambda: "No heartbeat is sent, so that somebody outside notices" in node.output)
    silent_at = beats(hook)
    node.send([encode(each) for each in ct_series(2)])  # refused; a few intervals pass
    assert beats(hook) <= silent_at + 1  # one may have been under way
    archive.with_name("away").rename(archive)
    wait_until(lambda: beats(hook) >= silent_at + 3)
