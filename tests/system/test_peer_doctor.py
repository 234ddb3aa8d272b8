"""Each mistake of docs/troubleshooting.md, made for real: the node says what the page says, and what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT, wait_until
from tests.system import raw_sender
from tests.system.misconfigured_peers import CASES, World

_COLUMNS = 4
_ENOUGH = 40


def _rows() -> dict[str, list[str]]:
    """Return the words that the node must say for each row of the page: those in backticks of its last two cells."""
    found = {}
    for line in (ROOT / "docs" / "troubleshooting.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if (
            len(cells) == _COLUMNS
            and cells[0] != "Mistake"
            and (words := re.findall("`([^`]+)`", f"{cells[2]} {cells[3]}"))
        ):
            found[cells[0]] = words
    return found


ROWS = _rows()


class Said:
    """What a node says of all mistakes: each sentence with its fix."""

    def __init__(self, world: World) -> None:
        self._nodes = (world.node, world.narrow)
        self._checked = world.node.json("check", exit_code=None)
        self.sentences: list[str] = []

    def has_all(self) -> bool:
        """Ask again; tell whether there is a sentence for each row."""
        found = [*self._checked]
        for node in self._nodes:
            found += node.json("status", exit_code=None)["findings"]
        self.sentences = [f"{one['sentence']}; {one['fix']}" for one in found]
        return all(self.of(words) for words in ROWS.values())

    def of(self, words: list[str]) -> str:
        """Return the sentence that has all these words; empty for none."""
        return next((one for one in self.sentences if all(word in one for word in words)), "")


@pytest.fixture
def said(tmp_path: Path) -> Iterator[Said]:
    """Make each mistake once."""
    world = World(tmp_path)
    try:
        with world.full, world.picky, world.strict:
            world.node.start()
            world.narrow.start()
            assert raw_sender.send(world.node, [world.ct], calling="CTSTORE")[0].status == 0
            told = Said(world)  # before the mistakes: check calls the node under its own name, which settles one
            for make in CASES.values():
                make(world)
            with contextlib.suppress(AssertionError):  # the test tells which are missing
                wait_until(told.has_all, 20, what="a sentence for each row")
            yield told
    finally:
        world.node.close()
        world.narrow.close()


def test_the_page_has_a_row_for_each_mistake():
    assert list(ROWS) == list(CASES)
    assert len(CASES) >= _ENOUGH


def test_it_says_what_is_wrong_and_what_to_do(said):
    missing = {mistake: words for mistake, words in ROWS.items() if not said.of(words)}
    assert not missing, "\n".join(said.sentences)
