"""README.md is true: its commands are run, its files and its settings exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from backup_scp.node import settings
from tests.processes import LOOPBACK, ROOT, Process, clean_environment, free_port
from tests.samples import data_set_bytes, dx, encode
from tests.system import raw_sender
from tests.system.test_access import At

README = (ROOT / "README.md").read_text()


def fenced(language: str) -> list[str]:
    """Return the README's blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in fenced("sh") for line in block.splitlines()]


def test_it_is_short():
    assert len(README.splitlines()) < 110


def test_every_file_that_it_links_to_exists():
    linked = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    named = re.findall(r"`((?:conf|docker|docs|backup_scp)/[^` ]+)`", README)

    assert linked
    assert named
    for target in [*linked, *named]:
        assert (ROOT / target.partition("#")[0]).exists(), target


def test_every_setting_that_it_names_exists(tmp_path):
    for block in fenced("toml"):
        (tmp_path / "settings.toml").write_text(block)
        (remote,) = settings.load(tmp_path / "settings.toml", {}).remotes
        assert {
            "name": remote.name,
            "ae_title": remote.ae_title,
            "host": remote.host,
            "port": remote.port,
        } == tomllib.loads(block)["remote"][0]
    defaults = settings.load(None, {})
    assert f"| AE title | `{defaults.node.ae_title}` |" in README
    assert f"| port | `{defaults.node.port}` |" in README
    assert f"`./{settings.DEFAULT_HOME}`" in README


def test_every_option_that_it_names_exists():
    for command in sorted({words[1] for words in map(str.split, named_commands()) if len(words) > 1}):
        options = {
            option
            for line in named_commands()
            if line.split()[1:2] == [command]
            for option in re.findall(r"--[a-z-]+", line)
        }
        said = subprocess.run(
            [sys.executable, "-m", "backup_scp", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=clean_environment(PYTHONPATH=str(ROOT)),
        ).stdout
        assert all(option in said for option in options), command


def named_commands() -> list[str]:
    """Return every backup-scp command line, in the text and in the blocks."""
    return [
        line for line in [*COMMANDS, *re.findall(r"`(backup-scp [^`]+)`", README)] if line.startswith("backup-scp ")
    ]


def recipe(target: str) -> list[str]:
    """Return the Makefile's commands for a target."""
    (found,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return [line.strip().lstrip("@") for line in found.splitlines()]


@pytest.fixture
def console(start_storescp):
    """Return the DR console that images are restored to."""
    return start_storescp(ae_title="DR_ROOM1")


@pytest.fixture
def fresh_machine(tmp_path, processes, console):
    """Return `run(line)` for a folder in which `make run` serves on the README's defaults; the port is another."""
    port = free_port()
    remote = {"name": "console", "ae_title": console.ae_title, "host": console.host, "port": console.port}
    env = clean_environment(
        PYTHONPATH=str(ROOT), BACKUP_SCP_NODE__PORT=str(port), BACKUP_SCP_REMOTE=json.dumps([remote])
    )
    encode(dx()).write(tmp_path / "image.dcm")

    def argv(line: str) -> list[str]:
        """Make a line of the README, or of the Makefile, run here: this interpreter, this port."""
        line = re.sub(r"\b11112\b", str(port), line.removeprefix("exec "))
        words = shlex.split(line.replace("$(BIN)/python", sys.executable))
        return [sys.executable, "-m", "backup_scp", *words[1:]] if words[0] == "backup-scp" else words

    def run(line: str) -> str:
        done = subprocess.run(
            argv(line),
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=110,
        )
        assert done.returncode == 0, f"{line} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    (tmp_path / "log").mkdir()
    serve = Process(argv(recipe("run")[-1]), tmp_path / "log" / "node.log", env)
    serve.argv = ["env", "-C", str(tmp_path), *serve.argv]
    processes.add(serve)
    serve.launch(lambda: raw_sender.echo(At(LOOPBACK, port)))
    return run


def test_its_commands_do_what_it_says(fresh_machine, console, tmp_path):
    """In the order of the README; `make run` serves meanwhile, and `make test` is what runs this."""
    said = {line: fresh_machine(line) for line in COMMANDS if not line.startswith("make ")}

    assert {line for line in COMMANDS if line.startswith("make ")} == {"make run", "make test"}
    assert recipe("test")
    assert {line.split()[0] for line in said} >= {"backup-scp", "echoscu", "storescu", "findscu"}
    assert "PID1" in "".join(output for line, output in said.items() if line.startswith("findscu"))
    assert "PID1" in said["backup-scp find"]
    image = encode(dx()).data_set
    assert console.data_sets() == [image]
    assert [data_set_bytes(path) for path in (tmp_path / "restored").rglob("*.dcm")] == [image]
    assert (tmp_path / settings.DEFAULT_HOME / "archive").is_dir()


def test_the_commands_in_its_text_do_what_they_say(fresh_machine, tmp_path):
    encode(dx()).write(tmp_path / "old drive" / "image.dcm")

    assert "1 new image" in fresh_machine("backup-scp import 'old drive'")
    assert "1 image intact" in fresh_machine("backup-scp verify")
    assert "console" in fresh_machine("backup-scp check")
    assert "1 image" in fresh_machine("backup-scp status")
    for command in ("import", "verify", "rebuild", "check", "status", "setup"):
        assert f"`backup-scp {command}" in README or f"backup-scp {command}" in COMMANDS
