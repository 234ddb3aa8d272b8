"""The open archive and index that requests work with."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from backup_scp.machine.disk_cache import DiskCache
from backup_scp.ports import Commitments, ReadableArchive, SiteScope, StudyReader, VerificationResult
from backup_scp.services.delivery import RecordVerification
from backup_scp.services.ingest import Ingest
from backup_scp.services.inventory_listing import InventoryOfAll
from backup_scp.services.verified_files import VerifiedFiles


def _leave(_results: Iterable[VerificationResult]) -> None:
    """Record nothing."""


@dataclass(frozen=True)
class Stores:
    """What handlers use; ``seen_by`` gives them that of their caller.

    Attributes
    ----------
    index
        Answers queries.
    archive
        Reads stored files; what is damaged or missing comes from a copy, if there is one.
    ingest
        The only way in for an image.
    commitments
        Stores requests of Storage Commitment; the node works on them.
    inventory
        Lists all that is held.
    record
        Records which files were found damaged: ``Index.record_verification``.
    index_is_embedded
        Whether the index is a file: a lookup then waits for no other computer.
    cache
        Keeps what can be made again; None without one.
    files
        Reads parts of stored files; every byte is compared.
    """

    index: StudyReader
    archive: ReadableArchive
    ingest: Ingest
    commitments: Commitments
    inventory: InventoryOfAll
    record: RecordVerification = _leave
    index_is_embedded: bool = False
    cache: DiskCache | None = None
    files: VerifiedFiles = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", VerifiedFiles(self.archive, self.index, self.record))

    def seen_by(self, scope: SiteScope) -> Self:
        """Return what a handler uses for a caller: it finds nothing of other clinics than those of the caller.

        What is kept in memory and in the cache is shared: handlers ask the index first.
        """
        if scope.is_all:
            return self
        seen, index = copy.copy(self), self.index.seen_by(scope)
        object.__setattr__(seen, "index", index)
        object.__setattr__(seen, "files", self.files.seen_by(index))
        object.__setattr__(seen, "inventory", self.inventory.seen_by(scope))
        return seen
