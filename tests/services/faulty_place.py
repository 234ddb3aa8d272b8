"""A copy in memory whose faults a test sets; all of it is real but the medium."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from backup_scp.errors import Damaged, DestinationAway, DestinationUnavailable, DigestMismatch, FileMissing
from backup_scp.ports import CopyResult, StoredCopy


@dataclass
class FaultyPlace:
    """Keeps whole files by name; never overwrites, as the contract says.

    ``fault`` is asked before each write: it returns bytes to store instead, raises, or returns None.
    """

    name: str = "cloud"
    is_off_site: bool = True
    is_removable: bool = False
    medium: str = ""
    label: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    puts: int = 0
    entered: int = 0
    concluded: list[bool] = field(default_factory=list)
    away: str = ""
    fault: Callable[[bytes], bytes | None] = lambda content: None

    def __enter__(self):
        self.entered += 1
        self._require_here()
        return self

    def __exit__(self, *exc):
        pass

    def _require_here(self):
        if self.away:
            raise (DestinationAway if self.is_removable else DestinationUnavailable)(self.away)

    def put(self, items, read):
        for item in items:
            self._require_here()
            yield self._put(item, read)

    def _put(self, item, read):
        try:
            file = read(item.held)
            with file.reopen() as stream:
                content = stream.read()
            if hashlib.sha256(content[file.data_set_offset :]).hexdigest() != item.held.sha256:
                raise DigestMismatch("The original is damaged")
        except Damaged as error:
            return CopyResult(item.number, None, str(error), is_lost=True)
        name = f"{hashlib.sha256(content).hexdigest()}.dcm"
        if name not in self.objects:
            self.puts += 1
            try:
                stored = self.fault(content)
            except OSError as error:
                return CopyResult(item.number, None, f"It was not written: {error}")
            self.objects[name] = content if stored is None else stored
        if self.objects[name] != content:
            del self.objects[name]  # as a new name would be tried
            return CopyResult(item.number, None, "It came back with other bytes")
        return CopyResult(item.number, StoredCopy(name, name[:64], len(content)))

    def compare(self, items):
        for item in items:
            self._require_here()
            content = self.objects.get(item.stored.name)
            if content is None:
                yield CopyResult(item.number, None, "Its name is gone")
            elif hashlib.sha256(content).hexdigest() != item.stored.sha256:
                del self.objects[item.stored.name]
                yield CopyResult(item.number, None, "It is damaged")
            else:
                yield CopyResult(item.number, item.stored)

    def fetch(self, item, into):
        self._require_here()
        content = self.objects.get(item.stored.name)
        if content is None:
            raise FileMissing("It is gone from the copy")
        if hashlib.sha256(content).hexdigest() != item.stored.sha256:
            raise DigestMismatch("It is damaged in the copy")
        into.write(content)

    def conclude(self, snapshot, *, is_complete):
        self.concluded.append(is_complete)


def one_in_five(seed: int) -> Callable[[bytes], bytes | None]:
    """Fail one write in five: refused, cut off, or changed on arrival."""
    draw = random.Random(seed)

    def fault(content: bytes) -> bytes | None:
        kind = draw.random()
        if kind < 0.08:
            raise OSError("503 Slow Down")
        if kind < 0.14:
            return content[: len(content) // 2]
        if kind < 0.20:
            return content[:-1] + bytes([content[-1] ^ 1])
        return None

    return fault
