"""Another PACS as a further copy: C-STORE, then a proof that it keeps the image (PS3.4 B, J.3, C.4; docs/adr/0041)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Self

from backup_scp.dicom.file_header import file_header
from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dicom.uids import ROOT_UID
from backup_scp.dimse.association.association import Association, Interrupted, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE, STORAGE_COMMITMENT, VERIFICATION
from backup_scp.dimse.scu.pacs_proof import Claim, PACSProof
from backup_scp.dimse.scu.remote_ae_destination import RemoteAEDestination
from backup_scp.dimse.scu.retrieve_scu import RetrieveSCU
from backup_scp.dimse.scu.sites_apart import ae_for
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
    Heading,
    Index,
    ReadOriginal,
    RemoteAE,
    Snapshot,
    StoredCopy,
    StoredVersion,
    do_nothing,
)
from backup_scp.services.pacs_versions import choose, collides, left_out

_SERVICES = (VERIFICATION, STORAGE_COMMITMENT, STUDY_ROOT.get_uid, STUDY_ROOT.find_uid)


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
        self.watch: Callable[[], None] = do_nothing
        self._proof = PACSProof(local, remote, index.commitments, answer_s, self._watch)
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
            self._proof.begin(frozenset())
            self._is_ours = False
            return self
        self._proof.begin(frozenset(context.abstract_syntax for context in association.contexts.values()))
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
        choice = choose(self._index, items, self._keeps_apart)
        yield from map(left_out, choice.superseded)
        yield from (collides(item, self._remote.ae_title) for item in choice.colliding)
        sent: list[Claim] = []
        stopped: DestinationUnavailable | ArchiveUnavailable | None = None
        try:
            yield from self._send(choice.answering, read, choice.shared, sent)
        except (DestinationUnavailable, ArchiveUnavailable) as error:
            stopped = error
        if sent:
            yield from self._proof.prove(sent, read)
        if stopped is not None:
            raise stopped

    def compare(self, items: Sequence[CopyItem]) -> Iterator[CopyResult]:
        """See ``ports.CopyPlace``: asks for the proof again.  It reads back what it can compare by digest alone."""
        choice = choose(self._index, items, self._keeps_apart)
        superseded = {item.number for item in choice.superseded}
        claims = [
            Claim(item, item.stored, self._doubt(item.held, choice.shared)) for item in items if item.stored is not None
        ]
        with self._interruptible():
            for result in self._proof.prove(claims, None):
                is_gone = result.stored is None and result.number in superseded
                yield result._replace(is_left_out=True) if is_gone else result

    def fetch(self, item: CopyItem, into: BinaryIO) -> None:
        """See ``ports.CopyPlace``: the Data Set by C-GET; File Meta is made here, because a PACS keeps none."""
        held, digest = item.held, hashlib.sha256()
        into.write(file_header(Heading(held.sop_class_uid, held.sop_instance_uid, held.transfer_syntax_uid)))

        def write(data: memoryview) -> None:
            digest.update(data)
            into.write(data)

        local = ae_for(self._local, self._remote, held.site)
        with self._interruptible(), RetrieveSCU(local, self._remote, as_stored=True, watch=self._watch) as scu:
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

    # -- sending -----------------------------------------------------------------------------------------------------

    def _send(
        self, items: Sequence[CopyItem], read: ReadOriginal, shared: frozenset[str], sent: list[Claim]
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
                except DestinationSilent as error:
                    yield CopyResult(item.number, None, str(error))  # the others need not wait for this one
                    raise
                else:
                    expected = StoredCopy(held.sop_instance_uid, held.sha256, held.size_bytes)
                    sent.append(Claim(item, expected, warning or self._doubt(held, shared)))

    @staticmethod
    def _send_one(destination: RemoteAEDestination, held: StoredVersion, read: ReadOriginal) -> str | None:
        file = read(held)
        if file.sha256 != held.sha256:
            raise DigestMismatch(f"{held.location} holds another Data Set than was received under this name")
        return destination.send(file, held)

    def _keeps_apart(self, _site: str) -> bool:
        return self._is_ours  # it keeps all versions

    def _doubt(self, held: StoredVersion, shared: frozenset[str]) -> str:
        if self._is_ours or held.sop_instance_uid not in shared:
            return ""
        return "There are several versions of it here, and its name does not tell which one the PACS keeps"
