"""Another PACS as a further copy: C-STORE, then a proof that it keeps the image (PS3.4 B, J.3, C.4; docs/adr/0041)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Self, cast

from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dicom.transcode import SMALL_BYTES
from backup_scp.dicom.uids import ROOT_UID
from backup_scp.dimse.association.association import Association, Interrupted, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE, STORAGE_COMMITMENT, VERIFICATION
from backup_scp.dimse.messages.file_header import file_header
from backup_scp.dimse.scu.query_scu import StudyCounter
from backup_scp.dimse.scu.remote_ae_destination import RemoteAEDestination
from backup_scp.dimse.scu.retrieve_scu import RetrieveSCU
from backup_scp.dimse.scu.storage_commitment_scu import StorageCommitmentSCU
from backup_scp.errors import (
    ArchiveUnavailable,
    Damaged,
    DestinationSilent,
    DestinationUnavailable,
    DigestMismatch,
    FileMissing,
    InstanceRefused,
    InstanceUnconfirmed,
    NothingAccepted,
)
from backup_scp.ports import (
    CopyItem,
    CopyResult,
    Index,
    ReadOriginal,
    Reference,
    RemoteAE,
    Snapshot,
    StoredCopy,
    StoredVersion,
    do_nothing,
)
from backup_scp.services.pacs_versions import choose, folder_of, has_same_content, left_out

COMMITTED, READ_BACK, FOUND = "committed", "read back", "found"
"""The proofs, in ``StoredCopy.object_version``: by Storage Commitment, by C-GET and comparison, by C-FIND alone."""

_MOST_BROKEN = 6  # each image is fetched twice
_SERVICES = (VERIFICATION, STORAGE_COMMITMENT, STUDY_ROOT.get_uid, STUDY_ROOT.find_uid)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A version that the PACS should have, to be proven.

    Attributes
    ----------
    expected
        What it gave back, or was sent, when the version was written.
    doubt
        Why a proof by name is not enough; empty when it is.
    """

    item: CopyItem
    expected: StoredCopy
    doubt: str = ""

    @property
    def held(self) -> StoredVersion:
        return self.item.held

    def proven(self, proof: str, sha256: str = "", size_bytes: int = 0) -> CopyResult:
        stored = StoredCopy(
            self.held.sop_instance_uid,
            sha256 or self.expected.sha256,
            size_bytes or self.expected.size_bytes,
            proof,
        )
        return CopyResult(self.item.number, stored)

    def failed(self, error: object) -> CopyResult:
        return CopyResult(self.item.number, None, f"Image {self.held.sop_instance_uid}: {error}")


class PACSCopy:
    """A remote AE as ``ports.CopyPlace``.

    Parameters
    ----------
    name
        Of the ``[[copy]]``.
    local, remote
        Our AE and the PACS.
    index
        Tells which version answers queries, and records commitments.
    is_off_site
        See ``ports.CopyPlace``.
    answer_s
        How long to wait for a Storage Commitment report, in seconds.
    """

    is_removable = False

    def __init__(
        self, name: str, local: LocalAE, remote: RemoteAE, index: Index, *, is_off_site: bool, answer_s: float
    ) -> None:
        self.name = name
        self.is_off_site = is_off_site
        self.medium = self.label = ""
        self._local = local
        self._remote = remote
        self._index = index
        self._answer_s = answer_s
        self.watch: Callable[[], None] = do_nothing
        self._broken = 0  # images in a row that could not be read back
        self._services: frozenset[str] = frozenset()
        self._is_ours = False  # another backup-scp, which keeps all versions and commits those that we sent

    def __enter__(self) -> Self:
        """Ask the PACS which services it offers."""
        try:
            association = Association.request_from(
                local=self._local,
                called=self._remote.ae_title,
                host=self._remote.host,
                port=self._remote.port,
                contexts=[(service, NATIVE[:2]) for service in _SERVICES],
                tls=self._remote.tls,
            )
        except NothingAccepted:
            self._services, self._is_ours = frozenset(), False
            return self
        self._services = frozenset(context.abstract_syntax for context in association.contexts.values())
        self._is_ours = association.implementation.startswith(ROOT_UID)
        association.release()
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def put(self, items: Sequence[CopyItem], read: ReadOriginal) -> Iterator[CopyResult]:
        """See ``ports.CopyPlace``: the image is sent in any case; only what the PACS proves afterwards is stored."""
        with self._interruptible():
            yield from self._put(items, read)

    def _put(self, items: Sequence[CopyItem], read: ReadOriginal) -> Iterator[CopyResult]:
        choice = choose(self._index, items)
        yield from map(left_out, choice.superseded)
        sent: list[_Claim] = []
        stopped: DestinationUnavailable | ArchiveUnavailable | None = None
        try:
            yield from self._send(choice.answering, read, choice.shared, sent)
        except (DestinationUnavailable, ArchiveUnavailable) as error:
            stopped = error
        if sent:
            yield from self._prove(sent, read)
        if stopped is not None:
            raise stopped

    def compare(self, items: Sequence[CopyItem]) -> Iterator[CopyResult]:
        """See ``ports.CopyPlace``: asks for the proof again.  It reads back what it can compare by digest alone."""
        choice = choose(self._index, items)
        superseded = {item.number for item in choice.superseded}
        claims = [
            _Claim(item, item.stored, self._doubt(item.held, choice.shared))
            for item in items
            if item.stored is not None
        ]
        with self._interruptible():
            for result in self._prove(claims, None):
                is_gone = result.stored is None and result.number in superseded
                yield result._replace(is_left_out=True) if is_gone else result

    def fetch(self, item: CopyItem, into: BinaryIO) -> None:
        """See ``ports.CopyPlace``: the Data Set by C-GET; File Meta is made here, because a PACS keeps none."""
        held, digest = item.held, hashlib.sha256()
        into.write(file_header(held))

        def write(data: memoryview) -> None:
            digest.update(data)
            into.write(data)

        with self._interruptible(), self._retrieve(as_stored=True) as scu:
            try:
                scu.get(held, write)
            except NothingAccepted as error:
                raise NothingAccepted(f"{error} as it was sent: export the image there") from None
            except InstanceUnconfirmed as error:
                raise DestinationUnavailable(str(error)) from None
            except InstanceRefused as error:
                raise FileMissing(str(error)) from None
        if digest.hexdigest() != held.sha256:
            raise DigestMismatch(f"{self._remote.ae_title} has another Data Set under {held.sop_instance_uid}")

    def conclude(self, snapshot: Snapshot, *, is_complete: bool) -> None:
        """Do nothing: a PACS has an index of its own."""

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Raise what ``watch`` has raised in the middle of the work."""
        try:
            yield
        except Interrupted as error:
            raise error.__cause__ or error from None

    def _watch(self) -> None:
        try:
            self.watch()
        except BaseException as error:
            raise Interrupted from error

    def _retrieve(self, *, as_stored: bool = False) -> RetrieveSCU:
        return RetrieveSCU(self._local, self._remote, as_stored=as_stored, watch=self._watch)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send(
        self, items: Sequence[CopyItem], read: ReadOriginal, shared: frozenset[str], sent: list[_Claim]
    ) -> Iterator[CopyResult]:
        """Send versions, yield those that failed, and append the others to ``sent``."""
        by_location = {item.held.location: item for item in items}
        with RemoteAEDestination(self._local, self._remote, watch=self._watch) as destination:
            try:
                ordered = destination.prepare([item.held for item in items])
            except NothingAccepted as error:
                yield from (CopyResult(item.number, None, str(error)) for item in items)
                return
            for held in ordered:
                item = by_location[held.location]
                try:
                    warning = self._send_one(destination, held, read)
                except Damaged as error:
                    yield CopyResult(item.number, None, str(error), is_lost=True)
                except InstanceRefused as error:
                    yield CopyResult(item.number, None, str(error))
                else:
                    expected = StoredCopy(held.sop_instance_uid, held.sha256, held.size_bytes)
                    sent.append(_Claim(item, expected, warning or self._doubt(held, shared)))

    @staticmethod
    def _send_one(destination: RemoteAEDestination, held: StoredVersion, read: ReadOriginal) -> str | None:
        file = read(held)
        if file.sha256 != held.sha256:
            raise DigestMismatch(f"{held.location} holds another Data Set than was received under this name")
        return destination.send(file, held)

    def _doubt(self, held: StoredVersion, shared: frozenset[str]) -> str:
        if self._is_ours or held.sop_instance_uid not in shared:
            return ""
        return "There are several versions of it here, and its name does not tell which one the PACS keeps"

    # -- proving -----------------------------------------------------------------------------------------------------

    def _prove(self, claims: Sequence[_Claim], read: ReadOriginal | None) -> Iterator[CopyResult]:
        """Yield what the PACS proves: by Storage Commitment, where it offers that, else by C-GET, else by C-FIND."""
        committed = list(claims)
        if STORAGE_COMMITMENT in self._services and claims:
            committed = []
            yield from self._commit(claims, committed, is_comparison=read is None)
            yield from (claim.proven(COMMITTED) for claim in committed if not claim.doubt)
            committed = [claim for claim in committed if claim.doubt]
        if committed:
            yield from self._look(committed, read)

    def _commit(
        self, claims: Sequence[_Claim], committed: list[_Claim], *, is_comparison: bool
    ) -> Iterator[CopyResult]:
        """Ask for commitment; yield what is not committed, and append the rest to ``committed``."""
        scu = StorageCommitmentSCU(self._local, self._remote, self._index.commitments, self._watch)
        references = {
            claim.item.number: Reference(claim.held.sop_class_uid, claim.held.sop_instance_uid) for claim in claims
        }
        results = scu.commit(list(dict.fromkeys(references.values())), self._answer_s)
        for claim in claims:
            reason = results.get(references[claim.item.number])
            if reason == 0:
                committed.append(claim)
            elif reason is not None:
                yield claim.failed(f"{self._remote.ae_title} does not commit it: Failure Reason 0x{reason:04X}")
        silent = [claim for claim in claims if references[claim.item.number] not in results]
        sentence = (
            f"{self._remote.ae_title} sent no commitment report within {self._answer_s:g} s: "
            "check that it knows AE title, host and port of this node"
        )
        if silent and is_comparison:  # silence is no damage
            raise DestinationUnavailable(sentence)
        yield from (claim.failed(sentence) for claim in silent)

    def _look(self, claims: Iterable[_Claim], read: ReadOriginal | None) -> Iterator[CopyResult]:
        """Read back and compare, where the PACS allows it; else ask whether it has the image."""
        finder: StudyCounter | None = None
        with ExitStack() as stack:
            retrieve = stack.enter_context(self._retrieve())
            for claim in claims:
                try:
                    result = self._read_back(retrieve, claim, read)
                except NothingAccepted as error:
                    finder = finder or stack.enter_context(StudyCounter(self._local, self._remote))
                    result = self._find(finder, claim, error, is_comparison=read is None)
                except (InstanceRefused, Damaged) as error:
                    result = claim.failed(error)
                yield result

    def _read_back(self, retrieve: RetrieveSCU, claim: _Claim, read: ReadOriginal | None) -> CopyResult:
        if STUDY_ROOT.get_uid not in self._services:
            raise NothingAccepted(f"{self._remote.ae_title} offers no C-GET")
        try:
            sha256, size_bytes = self._digest_of(retrieve, claim.held)
        except InstanceUnconfirmed:
            sha256, size_bytes = self._digest_of(retrieve, claim.held)
        if sha256 in (claim.held.sha256, claim.expected.sha256):
            return claim.proven(READ_BACK, sha256, size_bytes)
        if read is not None and self._gives_same_content(retrieve, claim.held, read, sha256):
            return claim.proven(READ_BACK, sha256, size_bytes)
        return claim.failed(f"{self._remote.ae_title} gives back another content")

    def _digest_of(self, retrieve: RetrieveSCU, held: StoredVersion) -> tuple[str, int]:
        """Fetch an image; return SHA-256 and length of its Data Set."""
        digest, size_bytes = hashlib.sha256(), 0

        def count(data: memoryview) -> None:
            nonlocal size_bytes
            self._watch()
            size_bytes += len(data)
            digest.update(data)

        try:
            retrieve.get(held, count)
        except InstanceUnconfirmed as error:
            self._broken += 1
            if self._broken >= _MOST_BROKEN:
                raise DestinationSilent(str(error)) from None
            raise
        self._broken = 0
        return digest.hexdigest(), size_bytes

    @staticmethod
    def _gives_same_content(retrieve: RetrieveSCU, held: StoredVersion, read: ReadOriginal, sha256: str) -> bool:
        """Fetch the image once more, and compare its elements and pixels with the stored ones."""
        file, digest = read(held), hashlib.sha256()
        room = SpooledTemporaryFile(max_size=SMALL_BYTES, dir=str(folder_of(file)))  # noqa: SIM115
        with cast("BinaryIO", room) as stream:

            def keep(data: memoryview) -> None:
                digest.update(data)
                stream.write(data)

            transfer_syntax = retrieve.get(held, keep)
            if digest.hexdigest() != sha256:
                return False
            size_bytes = stream.tell()
            stream.seek(0)
            return has_same_content(file, stream, transfer_syntax, size_bytes)

    def _find(self, finder: StudyCounter, claim: _Claim, why: NothingAccepted, *, is_comparison: bool) -> CopyResult:
        if claim.doubt:
            return claim.failed(f"{claim.doubt}; {why}")
        is_there = finder.holds(claim.held)
        if is_there:
            return claim.proven(FOUND)
        if is_there is None:
            sentence = f"{why}, and it answers neither Storage Commitment nor C-FIND: nothing proves its copy"
            if is_comparison:
                raise DestinationUnavailable(sentence)
            return claim.failed(sentence)
        return claim.failed(f"{self._remote.ae_title} does not find it")
