"""The open archive and index that requests work with."""

from __future__ import annotations

from dataclasses import dataclass

from backup_scp.ports import IndexReader, ReadableArchive
from backup_scp.services.ingest import Ingest


@dataclass(frozen=True, slots=True)
class Stores:
    """What handlers use.

    Attributes
    ----------
    index
        Answers queries.
    archive
        Reads stored files; what is damaged or missing comes from a copy, if there is one.
    ingest
        The only way in for an image.
    """

    index: IndexReader
    archive: ReadableArchive
    ingest: Ingest
