"""Commands while a node runs as another user: their files belong to that user, or they say what to type."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.samples import ct_series, dx, encode, make_study
from tests.system.mounts import private_mounts
from tests.system.node import Node, assert_one_sentence

NODE_USER, OTHER_USER = 54321, 54322
NEEDS_NOT = {("archive", "find"), ("archive", "db upgrade")}

pytestmark = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can be several users")


@pytest.fixture(scope="module")
def python() -> Iterator[list[str]]:
    """An interpreter that other users can run, and its path to the installed packages."""
    installed = Path(pytest.__file__).parents[1]
    if found := runs_for_others(ROOT, installed):
        yield found
        return
    with reachable_folder() as folder, private_mounts() as mounts:  # the checkout is in a folder that is closed to them
        for source, name in ((ROOT, "checkout"), (installed, "installed")):
            mounts.bind(source, folder / name)
        if found := runs_for_others(folder / "checkout", folder / "installed"):
            yield found
            return
    pytest.skip("no interpreter here can be run by another user than root")


def runs_for_others(checkout: Path, installed: Path) -> list[str]:
    """Return an interpreter that a user without rights can run, and the path to the packages; empty without one."""
    for candidate in (
        sys.executable,
        shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin"),
    ):
        argv, path = [str(candidate), "-c", "import backup_scp.node.node"], f"{checkout}:{installed}"
        with suppress(OSError):
            done = subprocess.run(argv, env={"PYTHONPATH": path}, cwd="/", check=False, user=NODE_USER, extra_groups=[])
            if done.returncode == 0:
                return [str(candidate), path]
    return []


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """Make a folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="backup-scp-owners-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def make_theirs(open_folder, python):
    def make(user: int | None = None) -> Node:
        return Node(open_folder / "node", user=user, python=python[0], env={"PYTHONPATH": python[1]})

    return make


@pytest.fixture
def theirs(make_theirs, processes) -> Iterator[Node]:
    """A node that runs as a user of its own, in a folder that is closed to others."""
    node = make_theirs(NODE_USER)
    os.chown(node.home.parent, NODE_USER, NODE_USER)
    processes.add(node.process)
    node.start()
    yield node
    node.close()


def type_as(user: int, node: Node, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node.python, "-m", "backup_scp", *map(str, arguments), "--config", str(node.config)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=node.env,
        cwd="/",
        user=user,
        group=user,
        extra_groups=[],
        timeout=110,
    )


def owners(node: Node) -> set[int]:
    return {path.lstat().st_uid for path in (node.home, *node.home.rglob("*"))}


def test_what_root_types_leaves_nothing_that_is_closed_to_the_node(theirs, open_folder):
    drive = open_folder / "drive"
    make_study(drive, patients=20)

    for arguments in (
        ["status"],
        ["import", drive],
        ["verify"],
        ["rebuild"],
        ["find"],
        ["check"],
        ["index", "backup", theirs.home / "copy.sqlite"],
        ["restore", "--to", theirs.home.parent / "restored", "--all"],
    ):
        done = type_as(0, theirs, *arguments)
        assert done.returncode == 0, done
        assert owners(theirs) == {NODE_USER}, arguments

    answers = theirs.send([encode(dx(study=str(number))) for number in range(300, 340)])
    assert {answer.status for answer in answers} == {0}
    assert type_as(NODE_USER, theirs, "verify").returncode == 0


def test_root_makes_a_first_archive_for_the_owner_of_its_folder(open_folder, make_theirs):
    node = make_theirs()
    node.home.mkdir()
    os.chown(node.home, NODE_USER, NODE_USER)
    node.write_settings()
    make_study(open_folder / "drive")

    assert type_as(0, node, "import", open_folder / "drive").returncode == 0

    assert owners(node) == {NODE_USER}


@pytest.mark.parametrize("arguments", [["status"], ["find"], ["verify"], ["rebuild"]])
def test_root_makes_no_index_beside_an_archive_that_is_empty(make_theirs, processes, arguments):
    """A folder that was made for the archive, before the node's first start."""
    node = make_theirs(NODE_USER)
    (node.home / "archive").mkdir(parents=True)
    for folder in (node.home.parent, node.home, node.home / "archive"):
        os.chown(folder, NODE_USER, NODE_USER)
    node.write_settings()
    type_as(0, node, *arguments)
    assert owners(node) == {NODE_USER}
    processes.add(node.process)
    node.start()
    assert {answer.status for answer in node.send([encode(dx())])} == {0}
    node.close()


@pytest.mark.parametrize("command", ["serve", "status", "find", "import", "verify", "rebuild", "check"])
def test_another_user_is_told_what_to_type(theirs, open_folder, command):
    theirs.send([encode(dx())])
    more = [open_folder] if command == "import" else []

    done = type_as(OTHER_USER, theirs, command, *more)

    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert f"belongs to #{NODE_USER}, and you are #{OTHER_USER}: type  sudo -u '#{NODE_USER}' env " in said
    assert f"-m backup_scp {command}" in said
    assert "Traceback" not in said
    assert owners(theirs) == {NODE_USER}


def test_root_hears_why_it_is_denied_something(theirs, open_folder):
    drive = open_folder / "drive"
    make_study(drive)
    (drive / "patient1").chmod(0o700)
    theirs.send([encode(dx())])

    done = type_as(0, theirs, "import", drive)
    restored = type_as(0, theirs, "restore", "--to", open_folder / "restored", "--all")

    assert done.returncode == 1
    assert "The folder cannot be read (Permission denied)" in done.stdout
    assert f"typed by root, this command acts as #{NODE_USER}, who owns the archive" in done.stdout
    assert restored.returncode == 1
    assert f"typed by root, this command acts as #{NODE_USER}" in restored.stdout + restored.stderr


def test_a_settings_file_that_is_closed(theirs):
    theirs.config.chmod(0o600)
    done = type_as(OTHER_USER, theirs, "status")
    assert_one_sentence(done, "cannot be read (Permission denied): it belongs to root", "sudo -u root")


def test_root_who_may_not_run_the_node_leaves_no_log_there(theirs):
    """It would be closed to the node, which then does not start."""
    theirs.stop()
    theirs.settings = {"log": {"file": str(theirs.home / "node-log.txt")}}
    theirs.write_settings()
    assert_one_sentence(type_as(0, theirs, "serve"), "and you are root")
    assert owners(theirs) == {NODE_USER}
    theirs.start()


def test_root_may_not_run_a_second_node_there(theirs):
    assert_one_sentence(type_as(0, theirs, "serve"), f"belongs to #{NODE_USER}", "you are root", "serve")


def test_an_index_of_one_user_and_an_archive_of_another(theirs):
    theirs.send([encode(dx())])
    theirs.stop()
    os.chown(theirs.home / "index.sqlite", 0, 0)

    for user in (0, NODE_USER):
        done = type_as(user, theirs, "status")
        assert_one_sentence(done, "index.sqlite to root", f"sudo chown -h {NODE_USER} ")
    words = shlex.split(done.stderr.partition("type  sudo ")[2].strip().removesuffix("*"))
    subprocess.run(words, check=True)
    assert type_as(NODE_USER, theirs, "find").returncode == 0


def test_folders_of_another_user_are_named_when_the_node_meets_them(theirs):
    """Files that a command of an earlier release left: the sentence names their owner, not only the denied access."""
    samples = [encode(ds) for ds in ct_series(2)]
    theirs.send(samples[:1])
    for folder in (theirs.home / "archive").rglob("*"):
        if folder.is_dir() and ".staging" not in folder.parts:
            os.chown(folder, 0, 0)
    (answer,) = theirs.send(samples[1:])
    assert answer.status == 0xA700
    assert "belongs to root" in theirs.output


@pytest.mark.parametrize("closed", ["", "archive", "index.sqlite"])
def test_what_is_ours_and_closed_is_a_sentence(make_theirs, processes, open_folder, closed):
    node = make_theirs(NODE_USER)
    processes.add(node.process)
    os.chown(node.home.parent, NODE_USER, NODE_USER)
    node.write_settings()
    make_study(open_folder / "drive")
    assert type_as(NODE_USER, node, "import", open_folder / "drive").returncode == 0
    path = node.home / closed
    path.chmod(0)

    for command in ("status", "find", "import", "verify", "rebuild", "check", "db upgrade", "serve"):
        if (closed, command) == ("archive", "serve"):  # it serves what it can, and says what is wrong
            node.process.launch(lambda: "nothing can be stored now" in node.output)
            node.stop()
            said = node.output
        else:
            more = [open_folder / "drive"] if command == "import" else []
            done = type_as(NODE_USER, node, *command.split(), *more)
            said = done.stdout + done.stderr
            assert done.returncode == ((closed, command) not in NEEDS_NOT), done
        assert "Traceback" not in said
        assert "should not have happened" not in said

    path.chmod(0o700)
