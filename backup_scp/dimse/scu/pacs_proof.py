"""Prove that another PACS keeps an image: Storage Commitment, C-GET, or C-FIND (PS3.4 J.3, C.4; docs/adr/0041)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dicom.transcode import SMALL_BYTES
from backup_scp.dimse.association.association import LocalAE
from backup_scp.dimse.association.negotiation import STORAGE_COMMITMENT
from backup_scp.dimse.scu.query_scu import StudyCounter
from backup_scp.dimse.scu.retrieve_scu import RetrieveSCU
from backup_scp.dimse.scu.sites_apart import ae_for
from backup_scp.dimse.scu.storage_commitment_scu import StorageCommitmentSCU
from backup_scp.errors import (
    Damaged,
    DestinationSilent,
    DestinationUnavailable,
    InstanceRefused,
    InstanceUnconfirmed,
    NothingAccepted,
)
from backup_scp.ports import (
    Commitments,
    CopyItem,
    CopyResult,
    ReadOriginal,
    Reference,
    RemoteAE,
    StoredCopy,
    StoredVersion,
)
from backup_scp.services.pacs_versions import folder_of, has_same_content

COMMITTED, READ_BACK, FOUND = "committed", "read back", "found"
"""The proofs, in ``StoredCopy.object_version``: by Storage Commitment, by C-GET and comparison, by C-FIND alone."""

_MOST_BROKEN = 6  # each image is fetched twice


@dataclass(frozen=True, slots=True)
class Claim:
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


class PACSProof:
    """Asks a PACS for the best proof that it offers.

    Parameters
    ----------
    local, remote
        Our AE and the PACS.
    commitments
        Records the requests and their reports.
    answer_s
        How long to wait for a Storage Commitment report, in seconds.
    watch
        Called repeatedly while we wait; an exception from it ends the wait.
    """

    def __init__(
        self, local: LocalAE, remote: RemoteAE, commitments: Commitments, answer_s: float, watch: Callable[[], None]
    ) -> None:
        self._local = local
        self._remote = remote
        self._commitments = commitments
        self._answer_s = answer_s
        self._watch = watch
        self._broken = 0  # images in a row that could not be read back
        self.services: frozenset[str] = frozenset()

    def begin(self, services: frozenset[str]) -> None:
        """Begin again with a PACS that offers these services."""
        self.services, self._broken = services, 0

    def prove(self, claims: Sequence[Claim], read: ReadOriginal | None) -> Iterator[CopyResult]:
        """Yield what the PACS proves: by Storage Commitment, where it offers that, else by C-GET, else by C-FIND."""
        by_site: dict[LocalAE, list[Claim]] = {}
        for claim in claims:
            by_site.setdefault(ae_for(self._local, self._remote, claim.held.site), []).append(claim)
        for local, of_site in by_site.items():
            yield from self._prove(of_site, read, local)

    def _prove(self, claims: Sequence[Claim], read: ReadOriginal | None, local: LocalAE) -> Iterator[CopyResult]:
        committed = list(claims)
        if STORAGE_COMMITMENT in self.services:
            committed = []
            yield from self._commit(claims, committed, local, is_comparison=read is None)
            yield from (claim.proven(COMMITTED) for claim in committed if not claim.doubt)
            committed = [claim for claim in committed if claim.doubt]
        if committed:
            yield from self._look(committed, read, local)

    def _commit(
        self, claims: Sequence[Claim], committed: list[Claim], local: LocalAE, *, is_comparison: bool
    ) -> Iterator[CopyResult]:
        """Ask for commitment; yield what is not committed, and append the rest to ``committed``."""
        scu = StorageCommitmentSCU(local, self._remote, self._commitments, self._watch)
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

    def _look(self, claims: Iterable[Claim], read: ReadOriginal | None, local: LocalAE) -> Iterator[CopyResult]:
        """Read back and compare, where the PACS allows it; else ask whether it has the image."""
        finder: StudyCounter | None = None
        with ExitStack() as stack:
            retrieve = stack.enter_context(RetrieveSCU(local, self._remote, watch=self._watch))
            for claim in claims:
                try:
                    result = self._read_back(retrieve, claim, read)
                except NothingAccepted as error:
                    finder = finder or stack.enter_context(StudyCounter(local, self._remote))
                    result = self._find(finder, claim, error, is_comparison=read is None)
                except (InstanceRefused, Damaged) as error:
                    result = claim.failed(error)
                except DestinationSilent as error:
                    if read is not None:
                        yield claim.failed(error)  # the others need not wait for this one
                    raise
                yield result

    def _read_back(self, retrieve: RetrieveSCU, claim: Claim, read: ReadOriginal | None) -> CopyResult:
        if STUDY_ROOT.get_uid not in self.services:
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

    def _find(self, finder: StudyCounter, claim: Claim, why: NothingAccepted, *, is_comparison: bool) -> CopyResult:
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
