"""An empty computer, without a settings file, that becomes a node by `recover`, and is interrupted meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from tests.processes import Process
from tests.system.node import TRACEBACK, Node
from tests.system.test_recover import files, rows

MADE_IN_TURN = (".", "backup-scp.toml", "index.sqlite.coming", "archive", "archive/.backup-scp-archive")
"""What a home gets before its first image, in this order."""


class RecoveringHome:
    """The home of a node, and the command that fills it from a drive; `node` answers for it afterwards."""

    def __init__(self, node: Node, drive: Path) -> None:
        self.node = node
        node.config = node.home / "backup-scp.toml"
        environment = node.env | {"BACKUP_SCP_NODE__PORT": str(node.port), "BACKUP_SCP_NODE__HOST": node.host}
        self._argv = [node.python, "-m", "backup_scp", "recover", str(drive), "--yes"]
        self.process = Process(self._argv, node.process.log.with_name("recover.log"), environment)

    def begin(self, *arguments: str) -> None:
        """Start the command; it is the same one each time."""
        self.process.argv = [*self._argv, *arguments]
        self.process.launch(lambda: True)

    def finish(self) -> None:
        """Let it go on until all is back."""
        self.begin("--stop-when-done")
        assert self.process.wait(100) == 0, self.process.tail()
        self.process.terminate()
        assert TRACEBACK not in self.process.output, self.process.tail()

    def serve(self) -> None:
        """Start the node as usual, and stop it: what a crash has left in staging is in its place then."""
        self.process.argv = [*self._argv[:3], "serve", "--config", str(self.node.config)]
        self.process.launch(self.node.echo)
        assert self.process.terminate() == 0, self.process.tail()

    @property
    def is_whole(self) -> bool:
        """Whether it has said that all is back."""
        return "whole again" in self.process.output

    def images(self) -> int:
        """Count the images that are here; folders may vanish meanwhile."""
        home = self.node.home
        folders = os.walk(home / "archive")
        return sum(len(names) for folder, _, names in folders if "/." not in folder.removeprefix(str(home)))

    def state(self) -> str:
        """Name how far it is."""
        home = self.node.home
        there = (
            ("nothing", home.exists()),
            ("a home", self.node.config.exists()),
            ("settings", (home / "index.sqlite.coming").exists() or (home / "index.sqlite").exists()),
            ("half an index", (home / "index.sqlite").exists()),
            ("the index", self.images() > 1),  # and the marker
            ("images", self.is_whole),
        )
        return next((name for name, goes_on in there if not goes_on), "all")

    def assert_is_as_before(self, before: dict[str, bytes], told: list[str]) -> None:
        """It has the files and the index of the lost home; what it has received meanwhile comes on top."""
        node = self.node
        now, there = files(node), rows(node)
        assert {name: now.get(name) for name in before} == before
        assert set(told) <= set(there)
        assert len(there) == len(now)
        assert node.json("verify")["intact"] == len(now)
        node.cli("rebuild")
        assert rows(node) == there
        assert not [path.name for path in node.home.iterdir() if path.name.endswith((".coming", ".part", ".key"))]
