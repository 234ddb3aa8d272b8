"""status of a real node: whether it runs, and what was refused, to whom, why, with the fix."""

from __future__ import annotations

import tomllib

import pytest

from tests.processes import free_port, wait_until
from tests.samples import dx, encode
from tests.system import raw_sender
from tests.system.mounts import private_mounts
from tests.system.network_namespace import OtherMachine
from tests.system.node import Node, Remote
from tests.system.pynetdicom_peers import find, move


def findings(node: Node, what: str):
    return [finding for finding in node.json("status", exit_code=None)["findings"] if finding["what"] == what]


def refused(node: Node):
    return wait_until(lambda: findings(node, "refused"), what="the refusal being shown")


def assert_nothing_to_do(node: Node) -> None:
    wait_until(lambda: not findings(node, "refused"), what="the refusal being settled")
    wait_until(lambda: not findings(node, "staging"), what="the node looking at what was left in staging")
    assert "Nothing to do" in node.cli("status", exit_code=0).stdout


def test_a_node_that_was_killed(start_node):
    node = start_node()
    assert node.cli("status").stdout.startswith(f"Running since {node.json('status')['node']['record']['since'][:10]}")
    node.kill()
    said = node.cli("status", exit_code=1).stdout
    assert said.splitlines()[0] == "NOT RUNNING: consoles cannot send. Start it with  backup-scp serve"
    assert "It ended unexpectedly" in said
    assert "Nothing to do" not in said
    node.start()
    assert_nothing_to_do(node)


def test_images_that_are_refused_until_they_come(start_node):
    with private_mounts() as mounts:
        node = start_node(settings={"archive": {"reserve_mb": 4}})
        assert node.send([encode(dx(number=1))], calling="CONSOLE")[0].status == 0
        disk = node.home.parent / "disk"
        mounts.disk(disk, "256m")
        for path in sorted((node.home / "archive").rglob("*")):
            target = disk / path.relative_to(node.home / "archive")
            target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
        mounts.bind(disk, node.home / "archive")
        mounts.read_only(disk, node.home / "archive")
        assert node.send([encode(dx(number=2))], calling="CONSOLE")[0].status == 0xA700

        (one,) = refused(node)
        assert one["severity"] == "act"
        assert one["sentence"].startswith("CONSOLE at 127.0.0.1: IMAGES REFUSED, 1 time, last ")
        assert "Read-only file system" in one["sentence"]
        said = node.cli("status", exit_code=1).stdout
        assert "NOTHING CAN BE STORED NOW" in said
        assert "Nothing to do" not in said

        mounts.pull(node.home / "archive")
        mounts.bind(disk, node.home / "archive")
        assert node.send([encode(dx(number=2))], calling="CONSOLE")[0].status == 0
        assert_nothing_to_do(node)


@pytest.fixture
def machine():
    machine = OtherMachine()
    try:
        machine.connect()
        yield machine
    finally:
        machine.disconnect()


def test_a_viewer_that_is_not_configured_until_it_is(make_node, machine):
    """After the given lines are pasted and the node is restarted, the finding is gone."""
    node = make_node(settings={"node": {"host": "0.0.0.0"}})
    node.host = machine.our_address
    node.settings["node"]["host"] = "0.0.0.0"
    node.start()
    with machine.there():
        assert find(node, "STUDY", {"StudyInstanceUID": ""}, calling="VIEWER").status == 0x0124

    (one,) = refused(node)
    assert one["severity"] == "note"
    assert f"VIEWER at {machine.address}: query refused, 1 time, last " in one["sentence"]
    assert "Nothing to do" not in node.cli("status", exit_code=0).stdout
    block = one["fix"].partition("\n")[2]
    (remote,) = tomllib.loads(block)["remote"]
    node.remotes.append(Remote(remote["name"], remote["ae_title"], 104, host=remote["host"]))
    node.restart()
    with machine.there():
        assert find(node, "STUDY", {"StudyInstanceUID": ""}, calling="VIEWER").status == 0
    assert_nothing_to_do(node)


def test_a_move_destination_that_is_off(start_node):
    node = start_node(remotes=[Remote("console", "CONSOLE", free_port())])
    sample = encode(dx())
    node.send([sample])
    assert move(node, "CONSOLE", "IMAGE", {"SOPInstanceUID": sample.sop_instance_uid})[-1].status == 0xA702
    (one,) = refused(node)
    assert one["severity"] == "note"
    assert "images did not arrive at CONSOLE, 1 time" in one["sentence"]
    assert "backup-scp check" in one["fix"]


def test_a_console_that_calls_another_ae_title(start_node):
    node = start_node()
    other = Node(node.home.parent / "other", ae_title="OTHER")
    other.port = node.port
    with pytest.raises(raw_sender.AssociationRefusedError):
        raw_sender.Association(other, calling="CONSOLE")
    (one,) = refused(node)
    assert (one["severity"], one["fix"]) == ("act", "set the called AE title to BACKUP_SCP at the sender")
    assert node.send([encode(dx())], calling="CONSOLE")[0].status == 0
    assert_nothing_to_do(node)


def test_the_addresses_to_type_into_a_console(make_node, machine):
    node = make_node(settings={"node": {"host": "0.0.0.0"}})
    node.start()
    addresses = node.json("status")["addresses"]
    assert machine.our_address in addresses
    first = node.cli("status").stdout.splitlines()[0]
    assert all(address in first for address in addresses)
    assert f"port {node.port}" in first
