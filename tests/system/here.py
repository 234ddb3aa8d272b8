"""Our side of a copy: an archive with images, and the place that the settings name; no node runs."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from backup_scp.node.copy_places import open_place
from backup_scp.node.remote_aes import receives_reports
from backup_scp.node.settings import Settings, load
from backup_scp.ports import CopyItem, CopyPlace, CopyResult, StoredVersion
from tests.processes import LOOPBACK, free_port
from tests.samples import Sample, data_set_of
from tests.stored import Stored
from tests.system.node import Remote, _table


class Here:
    """An archive, its index, and settings with one ``[[copy]]``."""

    def __init__(self, folder: Path, stored: Stored) -> None:
        self.folder, self.stored = folder, stored
        self.remote = Remote("here", "HERE", free_port())
        self.settings: Settings

    def configure(self, url: str, *remotes: Remote, answer_s: float = 60.0, **copy: object) -> None:
        node = {"ae_title": self.remote.ae_title, "host": LOOPBACK, "port": self.remote.port, "home": str(self.folder)}
        tables = [_table("[node]", node), _table("[commitment]", {"answer_s": answer_s})]
        tables += [_table("[[remote]]", vars(remote)) for remote in remotes]
        tables += [_table("[[copy]]", {"name": "away", "url": url} | copy)]
        file = self.folder / "here.toml"
        file.write_text("\n".join(tables))
        self.settings = load(file, {})

    def put(self, *samples: Sample) -> list[StoredVersion]:
        """Store samples as a node does; return their versions, in this order."""
        before = len(list(self.stored.index.versions()))
        for number, sample in enumerate(samples, before):
            self.stored.put(sample, number)
        by_digest = {held.sha256: held for held in self.stored.index.versions()}
        return [by_digest[sample.sha256] for sample in samples]

    @contextlib.contextmanager
    def place(self) -> Iterator[CopyPlace]:
        """Enter the place; receive reports meanwhile."""
        place = open_place(self.settings, self.settings.copy[0], self.stored.index)
        with receives_reports(self.settings, self.stored.index), place:
            yield place

    def copy(self, held: Iterable[StoredVersion]) -> dict[str, CopyResult]:
        """Write versions; return the results by SHA-256."""
        items = {number: CopyItem(number, one) for number, one in enumerate(held, 1)}
        with self.place() as place:
            results = list(place.put(list(items.values()), lambda one: self.stored.archive.read(one.location)))
        assert sorted(result.number for result in results) == sorted(items)
        return {items[result.number].held.sha256: result for result in results}

    def compare(self, held: Iterable[StoredVersion], copied: dict[str, CopyResult]) -> dict[str, CopyResult]:
        """Compare what ``copy`` has returned."""
        items = {number: CopyItem(number, one, copied[one.sha256].stored) for number, one in enumerate(held, 1)}
        with self.place() as place:
            return {items[result.number].held.sha256: result for result in place.compare(list(items.values()))}

    def fetch(self, held: StoredVersion, copied: dict[str, CopyResult]) -> bytes:
        """Return the Data Set of a fetched file."""
        into = io.BytesIO()
        with self.place() as place:
            place.fetch(CopyItem(1, held, copied[held.sha256].stored), into)
        return data_set_of(into.getvalue())


def proofs(results: dict[str, CopyResult]) -> list[str]:
    """Return for each result the proof, or the error without the image's name."""
    errors = re.compile(r"Image [0-9.]+: ")
    return [
        result.stored.object_version if result.stored else errors.sub("", result.error) for result in results.values()
    ]
