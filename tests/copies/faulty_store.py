"""A store of bytes in memory that does what stores do on bad days; all of it is real but the medium."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from backup_scp.copies.cloud.byte_store import NameState
from backup_scp.copies.cloud.cloud_names import digests_of
from backup_scp.errors import DestinationRefuses, DestinationUnavailable, FileMissing

_FAILING_READS = 0.05  # after the tries of a library


class FaultyStore:
    """Fails one write in five, each in another way; see ``ByteStore``.

    Parameters
    ----------
    keeps_versions
        Whether bytes stay when their name is deleted or overwritten.
    slow
        Called in a slow write.
    """

    place = "s3://bad-days"

    def __init__(self, seed: int, *, keeps_versions: bool, slow: Callable[[], object] = lambda: None) -> None:
        self.keeps_versions = keeps_versions
        self._slow = slow
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._versions: dict[str, list[bytes | None]] = {}  # None hides a name
        self._faults: dict[str, Callable[[str, bytes], str]] = {
            "error": self._error,
            "answer lost": self._answer_lost,
            "cut off": lambda name, content: self._keep(name, content[: len(content) // 2]),
            "cut off, and an error": self._partial,
            "changed": lambda name, content: self._keep(name, content[:-1] + bytes([content[-1] ^ 1])),
            "slow": self._slowly,
        }
        self.seen: Counter[str] = Counter()
        """What faults there were."""
        self.trouble: Exception | None = None
        """What every request raises: the store is away, or revokes the credential."""
        self.full_in: int | None = None
        """How many more writes it has room for; None: for any number."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def put(self, name, file):
        content = file.read_bytes()
        with self._lock:
            self._require_calm()
            if self.full_in is not None:
                if not self.full_in:
                    self.seen["full"] += 1
                    raise DestinationUnavailable(f"{self.place} is full")
                self.full_in -= 1
            assert name not in self._versions, "it was to overwrite nothing"
            if self._draw.random() >= 0.2:
                return self._keep(name, content)
            kind = self._draw.choice(list(self._faults))
            self.seen[kind] += 1
            return self._faults[kind](name, content)

    def _keep(self, name: str, content: bytes) -> str:
        self._versions.setdefault(name, []).append(content)
        return self._number(name)

    def _number(self, name: str) -> str:
        return str(len(self._versions[name])) if self.keeps_versions else ""

    def _error(self, *_: object) -> str:
        raise DestinationUnavailable(f"{self.place} cannot do it now (status 503, SlowDown)")

    def _answer_lost(self, name: str, content: bytes) -> str:
        self._keep(name, content)
        return self._error()

    def _partial(self, name: str, content: bytes) -> str:
        return self._answer_lost(name, content[:100])

    def _slowly(self, name: str, content: bytes) -> str:
        self._slow()
        return self._keep(name, content)

    def digest(self, name, object_version=""):
        with self._lock:
            self._require_calm()
            if self._draw.random() < _FAILING_READS:
                self.seen["failed read"] += 1
                self._error()
            return hashlib.sha256(self._content(name, object_version)).hexdigest()

    def get(self, name, object_version, into):
        with self._lock:
            self._require_calm()
            content = self._content(name, object_version)
        into.write(content)
        return hashlib.sha256(content).hexdigest()

    def _content(self, name: str, object_version: str) -> bytes:
        versions = self._versions.get(name, [None])
        content = versions[int(object_version) - 1 if object_version else -1]
        if content is None:
            raise FileMissing(f"{name} is not in {self.place}")
        return content

    def head(self, name):
        with self._lock:
            self._require_calm()
            content = self._versions.get(name, [None])[-1]
            return None if content is None else NameState(len(content), self._number(name))

    def list(self, folder):
        with self._lock:
            self._require_calm()
            found = [name for name, versions in self._versions.items() if versions[-1] is not None]
        return iter([name for name in found if name.startswith(f"{folder}/")])

    def try_to_delete(self, name):
        return False

    def _require_calm(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    # -- what others do, and what is left -----------------------------------------------------------------------------

    def revoke(self) -> None:
        """Refuse everything from now on."""
        self.trouble = DestinationRefuses(f"{self.place} refuses our credential (status 403)")

    def go_away(self) -> None:
        """Answer nothing from now on."""
        self.trouble = DestinationUnavailable(f"{self.place} does not answer")

    def come_back(self) -> None:
        self.trouble = None

    def take_away(self, count: int) -> None:
        """Delete the names of some images, and overwrite those of as many others."""
        images = [
            name for name, versions in self._versions.items() if _is_image(name) and _is_intact(name, versions[-1])
        ]
        names = self._draw.sample(images, 2 * count)
        for position, name in enumerate(names):
            content = None if position % 2 else b"encrypted"
            if self.keeps_versions:
                self._versions[name].append(content)
            elif content is None:
                del self._versions[name]
            else:
                self._versions[name] = [content]

    def intact_images(self) -> Sequence[bytes]:
        """Return all that is what its name says, once for each time that it is there."""
        images = [(name, versions) for name, versions in self._versions.items() if _is_image(name)]
        return [each for name, versions in images for each in versions if each and _is_intact(name, each)]


def _is_image(name: str) -> bool:
    return name.startswith("images/")


def _is_intact(name: str, content: bytes | None) -> bool:
    digests = digests_of(name)
    return content is not None and digests is not None and hashlib.sha256(content).hexdigest() == digests[1]
