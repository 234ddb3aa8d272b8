"""Send versions to a destination one after the other: read, compare, send, and yield an outcome for each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from backup_scp.errors import (
    ArchiveUnavailable,
    BackupSCPError,
    Damaged,
    DestinationUnavailable,
    IndexUnavailable,
    InstanceRefused,
)
from backup_scp.ports import (
    Destination,
    InstanceKey,
    Meanwhile,
    ReadableArchive,
    StoredVersion,
    StudyReader,
    VerificationResult,
)
from backup_scp.services.read_ahead import LoadedInstance, VerifiedReader

log = logging.getLogger(__name__)


class Delivery(StrEnum):
    """The result for one instance: the three kinds of completed sub-operations of PS3.4 C.4.2.1.6 to C.4.2.1.8."""

    SENT = "sent"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of sending one instance.

    Attributes
    ----------
    reason
        One sentence, when it failed or was taken with a warning.
    cause
        The error, when it failed.
    """

    held: StoredVersion
    status: Delivery
    reason: str = ""
    cause: BackupSCPError | None = None


RecordVerification = Callable[[Iterable[VerificationResult]], None]
"""``Index.record_verification``."""

Others = Callable[[StoredVersion], Iterable[StoredVersion]]
"""Returns the versions that have the same content as one, in another encoding."""


def others_of(archive: ReadableArchive, index: StudyReader) -> Others:
    """Return a function that finds other versions with the same content, for a damaged one."""

    def others(held: StoredVersion) -> Iterator[StoredVersion]:
        key = InstanceKey(held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid)
        try:
            versions = index.versions_of(key)
        except IndexUnavailable:
            return
        for version in versions:
            if _says_the_same(archive, version, held):
                yield version

    return others


def _says_the_same(archive: ReadableArchive, version: StoredVersion, held: StoredVersion) -> bool:
    try:
        return archive.read(version.location).arrival.same_as == held.sha256
    except (ArchiveUnavailable, Damaged):
        return False


def retrieve(
    outgoing: VerifiedReader,
    held: Sequence[StoredVersion],
    destination: Destination,
    record: RecordVerification,
    others: Others = lambda _: (),
) -> Generator[Outcome, None, None]:
    """Send versions to a destination that was entered and prepared; yield the outcome of each, in order.

    It sends the bytes that it compared with the digest: a damaged file fails, is recorded and is never sent.  When
    another version has the same content, that one is sent instead.  When the destination goes away, this instance and
    all further ones fail.
    """
    for number, one in enumerate(outgoing.in_order(held), 1):
        outcome = _deliver(one, destination, outgoing.read_ahead)
        if isinstance(outcome.cause, Damaged):
            _record(VerificationResult(one.held.location, outcome.reason, one.began_at), record)
            if one.error is not None:  # otherwise the damage was found after sending had begun
                outcome = _deliver_another(outcome, outgoing, destination, others)
        yield outcome
        if isinstance(outcome.cause, DestinationUnavailable):
            yield from (Outcome(unsent, Delivery.FAILED, outcome.reason, outcome.cause) for unsent in held[number:])
            return


def _deliver(loaded: LoadedInstance, destination: Destination, meanwhile: Meanwhile) -> Outcome:
    held = loaded.held
    try:
        warning = destination.send(loaded.required(), held, meanwhile)
    except (ArchiveUnavailable, Damaged, InstanceRefused, DestinationUnavailable) as error:
        return _failed(held, destination, error)
    except OSError as error:  # the file was intact a moment ago
        reason = error.strerror or type(error).__name__
        return _failed(held, destination, ArchiveUnavailable(f"A stored file cannot be read ({reason})"))
    return Outcome(held, Delivery.WARNING if warning else Delivery.SENT, warning or "")


def _deliver_another(damaged: Outcome, outgoing: VerifiedReader, destination: Destination, others: Others) -> Outcome:
    """Send another version in place of a damaged one; keep the outcome when none is intact."""
    for other in others(damaged.held):
        loaded = outgoing.load(other)
        if loaded.file is not None:
            log.info("SOP Instance %s is sent as its stored version in another encoding", other.sop_instance_uid)
            return replace(_deliver(loaded, destination, outgoing.read_ahead), held=damaged.held)
    return damaged


def _failed(held: StoredVersion, destination: Destination, error: BackupSCPError) -> Outcome:
    log.warning("SOP Instance %s not sent to %s: %s", held.sop_instance_uid, destination.name, error)
    return Outcome(held, Delivery.FAILED, str(error), error)


def _record(checked: VerificationResult, record: RecordVerification) -> None:
    try:
        record([checked])
    except IndexUnavailable as error:
        log.error("%s; it could not be recorded: %s", checked.damage, error)
