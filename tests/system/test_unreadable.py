"""An unreadable sector costs one file: every command and the node name it, and continue with the rest.

strace answers in the kernel's place when that file is read, from its second read on: its header is whole.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backup_scp.archive.filesystem import FilesystemArchive
from tests.processes import wait_until
from tests.samples import ct_series, dx, encode, replace
from tests.stored import Stored, arrival, heading_of, key_of, stored_in
from tests.system.failing_calls import require_strace
from tests.system.node import Node
from tests.system.pynetdicom_peers import find

READS = "read,pread64,readv"
SAMPLES = [encode(ds) for ds in (dx(), *ct_series(3), *(dx(study=f"other {n}") for n in range(3)))]
BAD = 2  # of a study with others


@pytest.fixture
def node(make_node, tmp_path) -> Node:
    require_strace()
    return make_node()


@contextmanager
def storage(node: Node) -> Iterator[Stored]:
    node.home.mkdir(parents=True, exist_ok=True)
    with stored_in(node.home) as stored:
        yield stored


@pytest.fixture
def locations(node) -> list[str]:
    with storage(node) as stored:
        return [stored.put(sample, number).location for number, sample in enumerate(SAMPLES)]


def spoil(node: Node, name: str, calls: str = READS, error: str = "EIO", when: str = "2+") -> None:
    """From its next start on, let calls of the node's processes fail on one file or folder of the archive."""
    path = (node.home / "archive" / name).resolve()
    script = node.config.parent / "spoiled-python"
    strace = ["strace", "-f", "-D", "-o", str(script.with_suffix(".calls")), "-P", str(path), "-e", f"trace={calls}"]
    strace += ["-e", f"inject={calls}:error={error}:when={when}"]
    script.write_text(f'#!/bin/sh\nexec {shlex.join([*strace, sys.executable])} "$@"\n')
    script.chmod(0o700)
    node.python = str(script)
    node.process.argv[0] = str(script)


def lose_index(node: Node) -> None:
    for file in node.home.glob("index.sqlite*"):
        file.unlink()


def held(node: Node) -> set[str]:
    with storage(node) as stored:
        return {match.location for match in stored.index.versions()}


@pytest.mark.parametrize(
    ("calls", "error", "when"),
    [(READS, "EIO", "2+"), (READS, "ESTALE", "2+"), (READS, "ENOENT", "2+"), ("openat", "EACCES", "1+")],
)
def test_rebuild(node, locations, calls, error, when):
    lose_index(node)
    spoil(node, locations[BAD], calls, error, when)
    said = node.json("rebuild", exit_code=1)
    assert said["entered"] == len(SAMPLES) - 1
    assert [each["location"] for each in said["left_out"]] == [locations[BAD]]
    assert locations[BAD] in said["left_out"][0]["reason"]
    assert held(node) == {*locations} - {locations[BAD]}


@pytest.mark.parametrize("depth", [1, 2])
def test_rebuild_past_a_folder_that_cannot_be_listed(node, locations, depth):
    lose_index(node)
    folder = "/".join(locations[BAD].split("/")[:depth])
    spoil(node, folder, "getdents64", when="1+")
    said = node.json("rebuild", exit_code=1)
    (left_out,) = said["left_out"]
    assert folder in left_out["reason"]
    assert held(node) == {each for each in locations if not each.startswith(f"{folder}/")}
    assert folder in node.json("verify", exit_code=1)["unindexed_damaged"][0]["reason"]


def test_verify_enters_the_rest(node, locations):
    lose_index(node)
    spoil(node, locations[BAD])
    said = node.json("verify", "--repair", exit_code=1)
    assert (said["repaired"], len(said["unindexed"])) == (len(SAMPLES) - 1, len(SAMPLES) - 1)
    assert [each["location"] for each in said["unindexed_damaged"]] == [locations[BAD]]


def test_find_as_of(node, locations):
    as_of = arrival(len(SAMPLES) - 1).received_at.isoformat()
    with storage(node) as stored:  # so that each file of its study is read
        stored.put(encode(replace(dx(), StudyDescription="Corrected")), 100)
    spoil(node, locations[BAD])
    said = node.cli("find", "--as-of", as_of, "--level", "image", "--json", exit_code=None)
    found = [json.loads(line) for line in said.stdout.splitlines()]
    missing = SAMPLES[BAD].sop_instance_uid
    assert {row["SOPInstanceUID"] for row in found} == {each.sop_instance_uid for each in SAMPLES} - {missing}


def leave(node: Node, sample, came: int) -> str:
    """Leave what a process leaves that dies between file and row."""
    archive = FilesystemArchive(node.home / "archive")
    staged = archive.stage(heading_of(sample))
    staged.write(sample.data_set)
    location, _ = archive.commit(staged, key_of(sample), arrival(came))
    own = archive._staging._own
    assert own is not None
    own[2].close()
    return location


def test_what_a_crash_left(node, locations):
    """The first of two files without a row is damaged, the second a version earlier than one that cannot be read."""
    left = sorted(leave(node, encode(dx(study=f"left {number}")), 50) for number in range(2))
    with storage(node) as stored:
        stored.flip(left[0])
    earlier = leave(node, encode(replace(SAMPLES[BAD].dataset(), StudyDescription="Earlier")), -5)
    spoil(node, locations[BAD])
    node.start()
    node.stop()
    assert held(node) == {*locations, left[1], earlier}
    assert f"{left[0]} is damaged" in node.output
    assert "send it again" in node.output
    lines = node.cli("find", "--versions", "all", "--json").stdout.splitlines()
    answering = {row["location"]: row["answering"] for row in map(json.loads, lines)}
    assert (answering[locations[BAD]], answering[earlier]) == (True, False)


def test_the_node_rebuilds_and_goes_on(node, locations):
    node.settings["verify"] = {"full_pass_days": 0}
    lose_index(node)
    spoil(node, locations[BAD])
    node.start()
    wait_until(lambda: "rebuilt" in node.json("status", exit_code=None)["tasks"])
    assert "unreadable files are missing in it" in node.output
    assert f"{locations[BAD]} cannot be read: Input/output error; it is left out of the index" in node.output
    assert len(find(node, "IMAGE", {"SOPInstanceUID": ""}).matches) == len(SAMPLES) - 1
