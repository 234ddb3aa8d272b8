"""Measures this version of the node and another one, in turns: ``--beside CHECKOUT``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.table import Table

THIS, OTHER = "this version", "the other"


class TwoVersions:
    """One run over both versions; ``measure`` is what differs.

    Parameters
    ----------
    folder
        On the disk to measure.
    beside
        The checkout of the other version; None measures this one alone.

    Attributes
    ----------
    table
        What was measured.
    """

    def __init__(self, folder: Path, beside: Path | None, *, shows_ratio: bool = False) -> None:
        self._folder = folder
        self._versions = {THIS: None} if beside is None else {THIS: None, OTHER: beside}
        self.table = Table(list(self._versions), (THIS, OTHER) if shows_ratio else None, "aim")

    def run(self, repeat: int) -> None:
        """Measure each version so many times, in turns."""
        for turn in range(repeat):
            versions = list(self._versions.items())
            for column, checkout in reversed(versions) if turn % 2 else versions:
                self.measure(column, self._folder / f"{column.replace(' ', '-')}-{turn}", checkout)

    def measure(self, column: str, folder: Path, checkout: Path | None) -> None:
        """Measure one version, in a folder of its own."""
        raise NotImplementedError


def parser(description: str | None, *, repeat: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every such benchmark; ``repeat`` is a default."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--beside", type=Path, help="a checkout of another version")
    made.add_argument("--repeat", type=int, default=repeat)
    made.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    return made
