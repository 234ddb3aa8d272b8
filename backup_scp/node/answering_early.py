"""Answer queries and send studies by the index on a drive, while it is copied to the new computer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from backup_scp.errors import ArchiveUnavailable, BackupSCPError
from backup_scp.node.opening import open_archive
from backup_scp.node.recovering import RecoverySource, open_source
from backup_scp.node.remote_aes import access_policy, listening, local_ae
from backup_scp.node.settings import Settings
from backup_scp.ports import CopyPlace, Heading, Index, StagedFile, StandAloneCopy
from backup_scp.services.bringing_back import ArchiveWithCopies, BringingBack
from backup_scp.services.commitment import StorageCommitment
from backup_scp.services.ingest import Ingest
from backup_scp.watch.rejection_log import RejectionLog

log = logging.getLogger(__name__)

_WORTH_BYTES = 64 << 20
"""A smaller index is copied before anybody asks."""

_GRACE_S = 30.0  # for studies that are being sent


class _NotYet(Ingest):
    """Stores nothing: the index that would list it is not here yet."""

    def begin(self, heading: Heading) -> StagedFile:  # noqa: ARG002
        raise ArchiveUnavailable("The index is on its way to this computer: send again in a minute")


@contextmanager
def answering_early(settings: Settings, place: StandAloneCopy, source: RecoverySource) -> Iterator[bool]:
    """Serve queries and retrieves during the block, if the copy's index can be used where it lies; tell whether.

    Parameters
    ----------
    place
        Entered.
    """
    with ExitStack() as stack:
        index = _index_of(place)
        if index is None:
            yield False
            return
        stack.enter_context(closing(index))
        archive = open_archive(settings)
        archive.establish(place.archive or index.archive_identity())
        ingest = _NotYet(archive, index)

        def places(_name: str, medium: str) -> CopyPlace | None:
            return open_source(settings, source) if medium == place.medium else None

        bring_back = BringingBack(archive, index, ingest, places, settings.home)
        _serve(stack, settings, ArchiveWithCopies(archive, bring_back), index, ingest)
        yield True


def _index_of(place: StandAloneCopy) -> Index | None:
    """Return the copy's index where it lies; None when it is small, or is not of this release."""
    from backup_scp.index.connection.migrate import is_current
    from backup_scp.index.sql_index import SQLIndex

    path = place.index_in_place()
    try:
        if path is None or path.stat().st_size < _WORTH_BYTES or not is_current(_url(path)):
            return None
        return SQLIndex(_url(path))
    except (OSError, BackupSCPError) as error:
        log.warning("The index on the drive cannot be used where it is: %s", error)
        return None


def _url(path: Path) -> str:
    """Return the URL of an SQLite file that nobody changes: it is read without locks, and nothing is written beside."""
    return f"sqlite:///{path.absolute().as_uri()}?mode=ro&immutable=1&uri=true"


def _serve(stack: ExitStack, settings: Settings, outgoing: ArchiveWithCopies, index: Index, ingest: Ingest) -> None:
    from backup_scp.dimse.association.negotiation import is_storage
    from backup_scp.dimse.association.server import Server
    from backup_scp.dimse.scp.service_table import services

    policy = access_policy(settings)
    rejections = RejectionLog(index)
    commitment = StorageCommitment(open_archive(settings), index, is_storage)
    served = services(
        outgoing,
        index,
        policy,
        local_ae(settings),
        commitment,
        rejections,
        ingest=ingest,
        strict=settings.node.strict_hierarchy,
        get_without_roles=settings.node.get_without_roles,
    )
    server = Server(listening(settings), policy, served, rejections)
    server.start()
    stack.callback(server.stop, _GRACE_S)
