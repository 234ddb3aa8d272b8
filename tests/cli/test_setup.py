"""`setup` at a keyboard: its questions, what it refuses, and that nothing is written before somebody agrees."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backup_scp.node.settings import load
from tests.alerts.servers import web_server
from tests.cli.test_network import Peer
from tests.processes import LOOPBACK, ROOT, clean_environment, free_port
from tests.system import raw_sender
from tests.terminal import CTRL_C, Ended, Terminal, terminal

NEXT = {"Folder [": "", "AE title [": "", "Port [": "", "Its AE title:": "", "Folder:": "", "Address:": ""}
"""The questions; Enter answers each."""


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "settings" / "backup-scp.toml"


@pytest.fixture
def sit_down(file, tmp_path):
    """Return a terminal in which `setup` asks; without a home unless it is named."""

    @contextlib.contextmanager
    def sit_down(*arguments: str, columns: int = 50, home: Path | None = None) -> Iterator[Terminal]:
        argv = (sys.executable, "-m", "backup_scp", "--config", file, "setup", *arguments)
        env = {"BACKUP_SCP_HOME": str(home)} if home else {}
        if not home:
            (tmp_path / "settings").mkdir(exist_ok=True)
        with terminal(*argv, columns=columns, env=env | {"no_proxy": "*"}, cwd=tmp_path) as shown:
            yield shown

    return sit_down


def answer(shown: Terminal, *pairs: tuple[str, str]) -> None:
    for words, keys in pairs:
        shown.wait_for(words)
        shown.press(f"{keys}\n".encode())


def all_of(**answers: str) -> list[tuple[str, str]]:
    """Return each question with its answer; Enter where there is none."""
    given = {key.replace("_", " "): said for key, said in answers.items()}
    return [(question, given.pop(question.rstrip(" [:"), "")) for question in NEXT]


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Return a folder on another disk than the tests'."""
    folder = Path("/dev/shm") / f"backup-scp-{secrets.token_hex(4)}"
    if not folder.parent.is_dir() or folder.parent.stat().st_dev in {Path("/").stat().st_dev, ROOT.stat().st_dev}:
        pytest.skip("no second disk")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_five_answers_are_settings(sit_down, file, tmp_path, elsewhere):
    """The console is tried, the message arrives, and every line of prose fits 50 columns."""
    images, port = tmp_path / "x-rays", free_port()
    console = Peer()
    with web_server() as hook, contextlib.closing(SimpleNamespace(close=console.stop)), sit_down() as shown:
        answer(
            shown,
            ("Folder [", str(images)),
            ("AE title [BACKUP_SCP]", "CLINIC"),
            ("Port [11112]", str(port)),
            ("Its AE title:", "CONSOLE"),
            ("Its address:", LOOPBACK),
            ("Its port [104]", str(console.port)),
            ("Folder:", str(elsewhere / "copies")),
            ("Address:", hook.url),
            ("Send a test message now? [Y/n]", ""),
            ("Write this? [Y/n]", ""),
        )
        ended = shown.end()
        assert len(hook.bodies) == 1
    assert ended.code == 0, ended.text
    settings = load(file, {})
    assert (settings.home, settings.node.ae_title, settings.node.port) == (images, "CLINIC", port)
    (remote,), (copy,) = settings.remote, settings.copy
    assert (remote.name, remote.ae_title, remote.host, remote.port) == ("console", "CONSOLE", LOOPBACK, console.port)
    assert (copy.name, copy.url) == ("drive", (elsewhere / "copies").as_uri())
    assert (settings.alerts.webhook, settings.alerts.webhook_form) == (hook.url, "json")
    assert file.stat().st_mode & 0o777 == 0o640
    text = " ".join(ended.text.split())
    assert f"CONSOLE at {LOOPBACK}, port {console.port} answers." in text
    assert "webhook: sent." in text
    assert hook.url not in ended.text.split("New file")[1], "its URL is often a secret"
    assert "AE title CLINIC" in text
    assert f"port {port}" in text.split("At the console enter:")[1]
    assert "backup-scp copies init drive" in text
    assert not list(file.parent.glob("*.part"))
    prose = [line for line in ended.lines if not line.startswith("  #") and " = " not in line]
    paths = (str(tmp_path.parent), hook.url, str(elsewhere))
    assert [line for line in prose if len(line) > 50 and not any(path in line for path in paths)] == []


def test_wrong_answers_are_asked_again(sit_down, file, tmp_path):
    a_file = tmp_path / "a-file"
    a_file.touch()
    with socket.socket() as taken, sit_down(columns=200) as shown:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        busy, silent = taken.getsockname()[1], free_port()
        answer(
            shown,
            ("Folder [", str(a_file)),
            ("a-file is a file: name a folder", str(a_file / "below")),
            ("Nothing can be written in", str(tmp_path / "x-rays")),
            ("AE title [", "MUCH_TOO_LONG_FOR_IT"),
            ("at most 16 characters", "A\\B"),
            ("no backslash", "CLINIC"),
            ("Port [", "many"),
            ("a whole number from 1 to 65535", str(busy)),
            (f"Port {busy} is already in use", str(free_port())),
            ("Its AE title:", "CONSOLE"),
            ("Its address:", ""),
            ("Write something", LOOPBACK),
            ("Its port", str(silent)),
            ("images come back to it only when it answers", str(tmp_path / "copy")),
            ("a copy there would be lost with it", "/nowhere/at/all"),
            ("There is no folder /nowhere/at", ""),
            ("Address:", "Dr. Doe"),
            ("neither an e-mail address", "http://clinic.example/hook"),
            ("write https://HOST/PATH", ""),
            ("Write this?", ""),
        )
        assert shown.end().code == 0
    settings = load(file, {})
    assert (settings.node.ae_title, settings.remote[0].port) == ("CLINIC", silent)
    assert not settings.copy
    assert not settings.alerts.has_channel


OURS = """# The settings of our clinic.

[node]
# As it was called in 2019.
ae_title = "OLD"
port = {port}

[alerts]
webhook = "https://ntfy.sh/a-secret-topic"  # IT

[[remote]]
name = "console"
ae_title = "DR1"
host = "192.0.2.1"
"""


@pytest.fixture
def ours(file) -> str:
    file.parent.mkdir()
    file.write_text(OURS.format(port=free_port()))
    file.chmod(0o600)
    return file.read_text()


def test_a_file_that_is_there_keeps_what_it_says(sit_down, file, ours, tmp_path):
    with sit_down(home=tmp_path / "home") as shown:
        answer(shown, *all_of(AE_title="NEW"), ("Write this?", "y"))
        ended = shown.end()
    assert ended.code == 0, ended.text
    assert "There is console: DR1 at 192.0.2.1" in " ".join(ended.text.split())
    changes = ended.text.split("Changes in")[1]
    assert '-ae_title = "OLD"' in changes
    assert '+ae_title = "NEW"' in changes
    assert "a-secret-topic" not in ended.text
    assert file.read_text() == ours.replace('"OLD"', '"NEW"')
    assert file.stat().st_mode & 0o777 == 0o600
    (before,) = file.parent.glob("backup-scp.toml.*")
    assert before.read_text() == ours


def test_without_a_yes_nothing_is_written(sit_down, file, ours, tmp_path):
    with sit_down(home=tmp_path / "home") as shown:
        answer(shown, *all_of(AE_title="NEW"), ("Write this?", "n"))
        assert shown.end().code == 0
    assert file.read_text() == ours
    assert list(file.parent.iterdir()) == [file]


def test_what_stands_there_already_is_not_written(sit_down, file, ours, tmp_path):
    with sit_down("--json", home=tmp_path / "home") as shown:
        answer(shown, *all_of())
        ended = shown.end()
    assert "nothing is to be written" in " ".join(ended.text.split())
    said = json.loads(ended.lines[-2])
    assert (said["written"], said["ae_title"], said["changed"]) == (False, "OLD", [])
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("question", ["Folder [", "Its AE title:", "Write this?"])
def test_ctrl_c_leaves_nothing_half(sit_down, file, tmp_path, question):
    with sit_down(home=tmp_path / "home") as shown:
        for words in [*NEXT, "Write this?"]:
            shown.wait_for(words)
            if words == question:
                shown.press(CTRL_C)
                break
            shown.press({"AE title [": b"NEW\n", "Port [": b"%d\n" % free_port()}.get(words, b"\n"))
        ended = shown.end()
    assert ended.code == 130
    assert "Interrupted: nothing was written" in ended.text
    assert not file.exists()
    assert not (tmp_path / "home").exists()


def test_a_console_that_calls_is_taken(sit_down, file, tmp_path):
    """One that calls us by another name is told so, and is told to the person here."""
    port = free_port()
    with sit_down(home=tmp_path / "home", columns=100) as shown:
        answer(shown, ("Folder [", ""), ("AE title [", ""), ("Port [", str(port)), ("Its AE title:", "wait"))
        shown.wait_for("Enter here: go on without")
        with pytest.raises(raw_sender.AssociationRefusedError):
            raw_sender.Association(SimpleNamespace(host=LOOPBACK, port=port, ae_title="BACKUPP"), calling="DR1")
        shown.wait_for("set the called AE title to BACKUP_SCP")
        here = SimpleNamespace(host=LOOPBACK, port=port, ae_title="BACKUP_SCP")
        with raw_sender.Association(here, calling="DR1") as association:
            association.echo()
        shown.wait_for(f"DR1 calls from {LOOPBACK}")
        answer(shown, (f"Its address [{LOOPBACK}]", ""), ("Its port [104]", ""), ("Folder:", ""), ("Address:", ""))
        answer(shown, ("Write this?", ""))
        assert shown.end().code == 0
    (remote,) = load(file, {}).remote
    assert (remote.ae_title, remote.host, remote.port) == ("DR1", LOOPBACK, 104)


def test_nobody_calls(sit_down, file, tmp_path):
    with sit_down(home=tmp_path / "home") as shown:
        answer(shown, ("Folder [", ""), ("AE title [", "NEW"), ("Port [", str(free_port())), ("Its AE title:", "wait"))
        answer(shown, ("Enter here:", ""), ("Folder:", ""), ("Address:", ""), ("Write this?", ""))
        assert shown.end().code == 0
    assert not load(file, {}).remote


def test_a_node_that_runs_is_told_to_reload(sit_down, file, node_run, home):
    """Its own port is free for it; nobody listens beside it."""
    home_of_node = home
    with sit_down(home=home_of_node) as shown:
        answer(shown, *all_of(AE_title="NEW"), ("Write this?", ""))
        ended = shown.end()
    assert "A node runs here: backup-scp reload" in " ".join(ended.text.split())
    assert "type wait" not in ended.text


def test_a_file_that_is_wrong_is_told_with_its_line(sit_down, file, ours, tmp_path):
    file.write_text(ours.replace("port = ", "prot = "))
    with sit_down(home=tmp_path / "home", columns=200) as shown:
        ended: Ended = shown.end()
    assert ended.code == 1
    assert f"{file}, line 6: [node]: there is no setting prot" in ended.text


def test_what_a_variable_says_is_not_asked(file, tmp_path):
    env = {"BACKUP_SCP_HOME": str(tmp_path / "home"), "BACKUP_SCP_NODE__AE_TITLE": "FIXED", "BACKUP_SCP_REMOTE": "[]"}
    argv = (sys.executable, "-m", "backup_scp", "--config", file, "setup")
    with terminal(*argv, env=env, cwd=tmp_path, columns=100) as shown:
        answer(shown, ("Folder [", ""), ("Port [", str(free_port())), ("Folder:", ""), ("Address:", ""))
        answer(shown, ("Write this?", ""))
        ended = shown.end()
    assert "The variable BACKUP_SCP_NODE__AE_TITLE says it: FIXED. Change it there." in ended.text
    assert "The variable BACKUP_SCP_REMOTE says it. Change it there." in ended.text
    assert "ae_title" not in file.read_text()


def test_without_a_terminal_it_names_the_file(file):
    done = subprocess.run(
        [sys.executable, "-m", "backup_scp", "--config", file, "setup"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(PYTHONPATH=str(ROOT)),
    )
    assert done.returncode == 1
    assert "there is no terminal here" in done.stderr
    assert str(file) in done.stderr
