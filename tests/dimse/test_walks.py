"""The walks in docs/architecture.md, compared with the calls of the running code."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from backup_scp.ports import RemoteAE
from tests.dimse.destination import Destination
from tests.dimse.test_retrieve_scp import CTS, MOVE, move
from tests.dimse.test_storage_scp import CT, store

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "backup_scp"
STEP = re.compile(r"^\| \d+ \| `(?P<file>[\w/]+\.py)` \| `(?P<function>[\w.]+)` \|", re.MULTILINE)


def walk(title: str) -> list[tuple[str, str]]:
    """Read the steps below a heading: file below the package, and qualified name of a function."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    _, _, section = text.partition(f"\n## {title}\n")
    return [(step["file"], step["function"]) for step in STEP.finditer(section.partition("\n## ")[0])]


@contextmanager
def calls() -> Iterator[list[tuple[str, str]]]:
    """Note every call of a function of the package, in all threads that start within."""
    made: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            file = Path(frame.f_code.co_filename).relative_to(PACKAGE)
            made.append((file.as_posix(), frame.f_code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield made
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def out_of_order(steps: list[tuple[str, str]], made: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the steps that were not made behind the one before."""
    at, missing = 0, []
    for step in steps:
        try:
            at = made.index(step, at) + 1
        except ValueError:
            missing.append(step)
    return missing


def test_a_c_store_takes_the_way_in(start_server, storage):
    with calls() as made, start_server(storage.services()).peer(CT, calling=b"CONSOLE") as peer:
        assert store(peer).status == 0
        peer.release()

    steps = walk("The way in: a C-STORE")
    assert len(steps) > 10
    assert out_of_order(steps, made) == []


def test_a_c_move_takes_the_way_out(start_server, storage, holding):
    holding(*CTS)
    destination = Destination()
    remotes = (RemoteAE("there", "THERE", "127.0.0.1", destination.port),)
    try:
        with calls() as made, start_server(storage.services(remotes), remotes).peer(MOVE, calling=b"VIEWER") as peer:
            assert move(peer)[-1].status == 0
            peer.release()
    finally:
        destination.close()

    steps = walk("The way out: a C-MOVE")
    assert len(steps) > 10
    assert out_of_order(steps, made) == []


def test_every_module_that_the_page_names_is_there():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    modules = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    named = set(re.findall(r"`([\w/]+\.py)`", text)) - {"__init__.py"}
    assert len(named) > 20
    assert [name for name in sorted(named) if not any(f"/{module}".endswith(f"/{name}") for module in modules)] == []


@pytest.mark.parametrize(
    ("steps", "missing"),
    [(["a", "b"], []), (["b", "a"], ["a"]), (["a", "c"], ["c"])],
)
def test_a_step_that_is_not_made_is_told(steps, missing):
    made = [("x.py", name) for name in "aab"]

    assert out_of_order([("x.py", step) for step in steps], made) == [("x.py", step) for step in missing]
