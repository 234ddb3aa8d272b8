"""Two nodes on one data folder: the second one refuses to start, and names the first."""

from __future__ import annotations

import json

import pytest

from tests.processes import free_port
from tests.samples import dx, encode
from tests.system.node import Node, assert_one_sentence

WORKERS = [{}, {"workers": 2}]


@pytest.mark.parametrize("workers", WORKERS, ids=["one process", "two"])
def test_a_second_one_refuses(start_node, workers):
    node = start_node(settings={"node": workers})
    first = node.config.read_text()
    node.settings["node"] = workers | {"port": free_port()}
    node.write_settings()
    assert_one_sentence(node.cli("serve", exit_code=1), f"process {node.pid}", f"port {node.port}", str(node.home))
    node.config.write_text(first)
    assert node.echo()
    assert node.send([encode(dx())])[0].status == 0


@pytest.mark.parametrize("workers", WORKERS, ids=["one process", "two"])
def test_after_a_kill_it_starts_again(start_node, workers):
    node = start_node(settings={"node": workers})
    killed = record(node)
    node.kill()
    assert record(node) == killed
    node.start()
    assert record(node)["process"] == node.pid != killed["process"]
    node.stop()
    assert not (node.home / "node.json").exists()


def test_two_with_one_database_and_folders_of_their_own(make_node, postgres_url):
    nodes = [make_node(settings={"index": {"url": postgres_url}}) for _ in range(2)]
    nodes[0].cli("db", "upgrade")
    archive = {"url": str(nodes[0].home / "archive")}
    for node in nodes:
        node.settings["archive"] = archive
        node.start()
    assert [record(node)["port"] for node in nodes] == [node.port for node in nodes]


def test_it_says_goodbye(start_node):
    node = start_node()
    node.stop()
    assert "\nStopping: images in progress are completed first\n" in node.output
    assert node.output.endswith("\nStopped\n")


def record(node: Node):
    return json.loads((node.home / "node.json").read_text())
