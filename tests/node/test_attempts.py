"""Devices and copies are tried in a process of their own, which does not outlive its time."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from backup_scp.errors import DestinationUnavailable, ResourceLimitation
from backup_scp.node import attempts
from backup_scp.node.attempts import Attempt, run
from backup_scp.node.settings import load
from tests.processes import free_port


@pytest.fixture
def settings(tmp_path):
    def settings(text: str):
        (tmp_path / "settings.toml").write_text(text)
        return load(tmp_path / "settings.toml", {"BACKUP_SCP_HOME": str(tmp_path)})

    return settings


def remote(port: int) -> str:
    return f'[[remote]]\nname = "ct"\nae_title = "CT"\nhost = "127.0.0.1"\nport = {port}\n'


def test_a_closed_port(settings):
    (answer,) = run(Attempt(settings(remote(free_port())), "remote", "ct"))
    assert not answer.is_well
    assert "the port is closed: connection refused" in answer.answer
    assert "firewall" in answer.fix


def children() -> set[str]:
    return {number for file in Path("/proc/self/task").glob("*/children") for number in file.read_text().split()}


def test_a_device_that_says_nothing_is_given_up(settings):
    before = children()  # of other tests: a decoder, a server
    with socket.create_server(("127.0.0.1", 0)) as silent:
        attempt = Attempt(settings(remote(silent.getsockname()[1])), "remote", "ct")
        with pytest.raises(DestinationUnavailable, match="No answer within 3 s"):
            run(attempt, longest_s=3)
    assert not children() - before


def test_a_copy_that_cannot_be_used(settings):
    text = '[[copy]]\nname = "cloud"\nurl = "s3://bucket/x"\naccess_key = "A"\n'
    (answer,) = run(Attempt(settings(text), "place", "cloud"))
    assert not answer.is_well
    assert "access_key and secret_key_file belong together" in answer.answer


def test_at_most_two_at_once(settings, monkeypatch):
    attempt = Attempt(settings(remote(free_port())), "remote", "ct")
    with attempts._places, attempts._places, pytest.raises(ResourceLimitation, match="wait a moment"):
        run(attempt)


def test_a_process_that_fails_is_told(settings, monkeypatch):
    monkeypatch.setattr(attempts, "MODULE", "backup_scp.no_such_module")
    with pytest.raises(DestinationUnavailable, match="exit code 1"):
        run(Attempt(settings(remote(free_port())), "remote", "ct"))


def test_a_computer_that_does_not_answer(settings):
    """A full queue: the system answers no further connection, as a computer that is off."""
    with socket.socket() as full, contextlib.ExitStack() as callers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(full.getsockname())
        text = f"[node]\nconnect_timeout_s = 1\n{remote(full.getsockname()[1])}"
        (answer,) = run(Attempt(settings(text), "remote", "ct"))
    assert "no answer within 1 s" in answer.answer
