"""A PACS with DICOMweb as a further copy: STOW-RS, then WADO-RS and comparison (PS3.18 10.4, 10.5; docs/adr/0041)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, NamedTuple, Self, cast

from backup_scp.copies.dicomweb.dicomweb_session import CHUNK_BYTES, DICOMwebSession, Login, StowAnswer
from backup_scp.copies.dicomweb.multipart import FilePart
from backup_scp.copies.dicomweb.received import ReceivedFile
from backup_scp.errors import (
    Damaged,
    DestinationSilent,
    DigestMismatch,
    FileMissing,
    InstanceRefused,
    InstanceUnconfirmed,
    SiteNotTaken,
)
from backup_scp.ports import (
    ArchivedFile,
    CopyItem,
    CopyResult,
    Index,
    ReadOriginal,
    Snapshot,
    StoredCopy,
    StoredVersion,
    do_nothing,
)
from backup_scp.services.pacs_versions import choose, collides, folder_of, has_same_content, left_out
from backup_scp.services.read_ahead import parts as data_set_of

READ_BACK = "read back"
"""The proof, in ``StoredCopy.object_version``."""

_SHARED_BYTES = 1 << 20  # smaller files share a request
_MOST_BYTES, _MOST_FILES = 8 << 20, 100  # of one request; they are in memory
_MOST_BROKEN = 3


class _Loaded(NamedTuple):
    """A file that is ready to be sent."""

    item: CopyItem
    file: ArchivedFile
    part: FilePart

    @property
    def uid(self) -> str:
        return self.item.held.sop_instance_uid


class DICOMwebCopy:
    """A DICOMweb server as ``ports.CopyPlace``.

    Parameters
    ----------
    name, is_off_site
        See ``ports.CopyPlace``.
    base_url
        Of the service: ``https://HOST/PATH``.
    index
        Tells which version answers queries.
    credentials, ca, timeouts_s
        See ``DICOMwebSession``.
    brings_sites
        The clinics that the server, another backup-scp, keeps apart.
    """

    is_removable = False

    def __init__(
        self,
        name: str,
        base_url: str,
        index: Index,
        *,
        is_off_site: bool,
        credentials: Login,
        ca: Path | None,
        timeouts_s: tuple[float, float],
        brings_sites: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.is_off_site = is_off_site
        self.medium = self.label = ""
        self._index = index
        self._session = DICOMwebSession(base_url.rstrip("/"), credentials, ca, timeouts_s)
        self._brings_sites = frozenset(brings_sites)
        self._broken = 0  # requests in a row
        self.watch: Callable[[], None] = do_nothing

    def __enter__(self) -> Self:
        self._broken = 0
        self._session.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._session.__exit__(*exc)

    def put(self, items: Sequence[CopyItem], read: ReadOriginal) -> Iterator[CopyResult]:
        """See ``ports.CopyPlace``: small files share a request, and each is read back on its own."""
        choice = choose(self._index, items, self._keeps_apart)
        yield from map(left_out, choice.superseded)
        yield from (collides(item, f"copy {self.name}") for item in choice.colliding)
        for site, of_site in groupby(sorted(choice.answering, key=_site), _site):
            if site and self._brings_sites and site not in self._brings_sites:
                why = f"Its clinic {site} is not in brings_sites of copy {self.name}"
                yield from (_failed(item, why) for item in of_site)
                continue
            some, said = list(of_site), set[int]()
            try:
                with self._for(some[0].held):
                    for result in self._put_some(some, read):
                        said.add(result.number)
                        yield result
            except SiteNotTaken as error:
                yield from (_failed(item, error) for item in some if item.number not in said)

    def _put_some(self, items: Iterable[CopyItem], read: ReadOriginal) -> Iterator[CopyResult]:
        shared: list[_Loaded] = []
        for item in items:
            try:
                loaded = _load(item, read)
            except Damaged as error:
                yield CopyResult(item.number, None, str(error), is_lost=True)
                continue
            if loaded.part.size_bytes > _SHARED_BYTES:
                yield from self._put([loaded], read)
                continue
            shared.append(loaded)
            if len(shared) >= _MOST_FILES or sum(one.part.size_bytes for one in shared) >= _MOST_BYTES:
                yield from self._put(shared, read)
                shared = []
        if shared:
            yield from self._put(shared, read)

    @contextmanager
    def _for(self, held: StoredVersion) -> Iterator[None]:
        """Let requests be for the clinic of an image, where the server keeps it apart."""
        self._session.site = held.site if held.site in self._brings_sites else ""
        try:
            yield
        finally:
            self._session.site = ""

    def compare(self, items: Sequence[CopyItem]) -> Iterator[CopyResult]:
        """See ``ports.CopyPlace``."""
        superseded = {item.number for item in choose(self._index, items, self._keeps_apart).superseded}
        for item in items:
            if item.stored is None:
                continue
            try:
                with self._for(item.held):
                    result = self._compared(item, item.stored)
            except (InstanceRefused, Damaged) as error:
                result = _failed(item, error)
            is_gone = result.stored is None and item.number in superseded
            yield result._replace(is_left_out=True) if is_gone else result

    def fetch(self, item: CopyItem, into: BinaryIO) -> None:
        """See ``ports.CopyPlace``: File Meta is as the server has it."""
        received = ReceivedFile(whole=into)
        try:
            with self._for(item.held):
                self._session.retrieve(item.held, received.write)
        except InstanceRefused as error:
            raise FileMissing(str(error)) from None
        if received.sha256 != item.held.sha256:
            raise DigestMismatch(f"Copy {self.name} has another Data Set under {item.held.sop_instance_uid}")

    def conclude(self, snapshot: Snapshot, *, is_complete: bool) -> None:
        """Do nothing: a PACS has an index of its own."""

    def _keeps_apart(self, site: str) -> bool:
        return site in self._brings_sites

    # -- storing -----------------------------------------------------------------------------------------------------

    def _put(self, loaded: Sequence[_Loaded], read: ReadOriginal) -> Iterator[CopyResult]:
        """Send files in one request, and alone those of which the answer does not say that they are stored."""
        try:
            answer = self._store(loaded)
        except InstanceUnconfirmed as error:
            answer = StowAnswer(frozenset(), {}, str(error))
        except DestinationSilent as error:
            yield _failed(loaded[0].item, error)  # the others need not wait for this one
            raise
        except Damaged as error:  # found while it was sent, so the request was not completed
            answer = StowAnswer(frozenset(), {}, str(error))
            if len(loaded) == 1:
                yield CopyResult(loaded[0].item.number, None, str(error), is_lost=True)
                return
        for one in loaded:
            if one.uid in answer.referenced:
                yield self._confirmed(one, read)
            elif len(loaded) > 1:
                yield from self._put([one], read)
            else:
                reason = answer.failures.get(one.uid)
                yield _failed(one.item, f"Copy {self.name} did not take it: {reason}" if reason else answer.trouble)

    def _store(self, loaded: Sequence[_Loaded]) -> StowAnswer:
        try:
            answer = self._session.store([one.part for one in loaded])
        except InstanceUnconfirmed as error:
            self._broken += 1
            if self._broken >= _MOST_BROKEN and len(loaded) == 1:
                raise DestinationSilent(str(error)) from None
            raise
        self._broken = 0
        return answer

    def _confirmed(self, one: _Loaded, read: ReadOriginal) -> CopyResult:
        """Read a file back, and compare its Data Set: byte for byte, or all that it says in another encoding."""
        held = one.item.held
        try:
            received = self._retrieved(held)
            if received.sha256 != held.sha256 and not self._gives_same_content(held, read(held), received.sha256):
                return _failed(one.item, f"Copy {self.name} gives back another content")
        except (Damaged, InstanceRefused) as error:
            return _failed(one.item, error)
        return CopyResult(one.item.number, _record(held, received))

    def _retrieved(self, held: StoredVersion) -> ReceivedFile:
        """Fetch a file; once more when the connection breaks off."""
        try:
            return self._retrieved_at_once(held)
        except InstanceUnconfirmed:
            return self._retrieved_at_once(held)

    def _retrieved_at_once(self, held: StoredVersion) -> ReceivedFile:
        received = ReceivedFile()

        def write(data: bytes) -> None:
            self.watch()
            received.write(data)

        self.watch()
        self._session.retrieve(held, write)
        return received

    def _gives_same_content(self, held: StoredVersion, file: ArchivedFile, sha256: str) -> bool:
        """Fetch a file once more, and compare its elements and pixels with the stored ones."""
        room = SpooledTemporaryFile(max_size=_SHARED_BYTES, dir=str(folder_of(file)))  # noqa: SIM115
        with cast("BinaryIO", room) as stream:
            received = ReceivedFile(data_set=stream)
            self._session.retrieve(held, received.write)
            if received.sha256 != sha256 or not received.transfer_syntax_uid:
                return False
            stream.seek(0)
            return has_same_content(file, stream, received.transfer_syntax_uid, received.size_bytes)

    def _compared(self, item: CopyItem, stored: StoredCopy) -> CopyResult:
        received = self._retrieved(item.held)
        if received.sha256 in (stored.sha256, item.held.sha256):
            return CopyResult(item.number, _record(item.held, received))
        return _failed(item, f"Copy {self.name} gives back another content")


def _site(item: CopyItem) -> str:
    return item.held.site


def _failed(item: CopyItem, error: object) -> CopyResult:
    return CopyResult(item.number, None, f"Image {item.held.sop_instance_uid}: {error}")


def _record(held: StoredVersion, received: ReceivedFile) -> StoredCopy:
    return StoredCopy(held.sop_instance_uid, received.sha256, received.size_bytes, READ_BACK)


def _load(item: CopyItem, read: ReadOriginal) -> _Loaded:
    """Read and compare a small file; a large one is compared while it is sent.

    Raises
    ------
    Damaged, ArchiveUnavailable
    """
    held, file = item.held, read(item.held)
    if file.sha256 != held.sha256:
        raise DigestMismatch(f"{held.location} holds another Data Set than was received under this name")
    size_bytes = file.data_set_offset + file.size_bytes
    if size_bytes > _SHARED_BYTES:
        return _Loaded(item, file, FilePart(size_bytes, lambda: _chunks(file)))
    with file.reopen() as stream:
        content = stream.read()
    if hashlib.sha256(memoryview(content)[file.data_set_offset :]).hexdigest() != held.sha256:
        raise DigestMismatch(f"{held.location} is damaged: its Data Set does not match its digest")
    return _Loaded(item, file, FilePart(len(content), lambda: iter([content])))


def _chunks(file: ArchivedFile) -> Iterator[bytes | memoryview]:
    """Yield a whole file; raise ``DigestMismatch`` at its end when its Data Set has changed."""
    left = file.data_set_offset
    with file.reopen() as stream:
        while left and (data := stream.read(min(left, CHUNK_BYTES))):
            left -= len(data)
            yield data
    yield from data_set_of(file)
