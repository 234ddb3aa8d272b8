"""Choose the versions that another PACS is sent, and compare what it gives back (docs/adr/0041)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from backup_scp.dicom.transcode.content import digest_of_content
from backup_scp.errors import InstanceRefused
from backup_scp.ports import (
    ArchivedFile,
    CopyItem,
    CopyResult,
    Index,
    InstanceKey,
    Reference,
    Requester,
    SiteScope,
    StoredVersion,
)

LEFT_OUT = "It does not answer queries here, and another PACS keeps one version of an image"
_LONGEST_S = 60.0
_NOBODY = Requester("", "", "")


@dataclass(frozen=True, slots=True)
class Choice:
    """Items, divided by what another PACS can hold of them.

    Attributes
    ----------
    answering
        The versions that answer queries.
    superseded
        Versions of which a later one of the same clinic answers.
    colliding
        Images whose SOP Instance UID another clinic's image, which came first, has there: the other PACS keeps one.
    shared
        SOP Instance UIDs of which the archive has several versions: that a PACS has one of this name tells not which.
    """

    answering: list[CopyItem]
    superseded: list[CopyItem]
    colliding: list[CopyItem]
    shared: frozenset[str]


def choose(index: Index, items: Sequence[CopyItem], keeps_apart: Callable[[str], bool]) -> Choice:
    """Divide items into versions that answer queries, and others.

    Parameters
    ----------
    keeps_apart
        Tells whether the other PACS keeps the images of a site apart from those of other sites.

    Raises
    ------
    IndexUnavailable
    """
    references = {item.number: Reference(item.held.sop_class_uid, item.held.sop_instance_uid) for item in items}
    named = index.commitments.find(list(references.values()), _NOBODY)  # also in other studies
    choice, shared = Choice([], [], [], frozenset()), set()
    for item in items:
        held, others = item.held, named[references[item.number]]
        versions = index.seen_by(SiteScope.of([held.site])).versions_of(key_of(held))
        if versions and versions[0].location != held.location:
            choice.superseded.append(item)
        elif not keeps_apart(held.site) and any(_was_first(other, held) for other in others):
            choice.colliding.append(item)
        else:
            choice.answering.append(item)
        if len(versions) > 1 or len(others) > 1:
            shared.add(held.sop_instance_uid)
    return replace(choice, shared=frozenset(shared))


def _was_first(other: StoredVersion, held: StoredVersion) -> bool:
    """Tell whether another clinic's image of other content has the UID of this one, and came before it."""
    is_other = other.site != held.site and other.sha256 != held.sha256
    return is_other and (other.received_at, other.location) < (held.received_at, held.location)


def collides(item: CopyItem, where: str) -> CopyResult:
    """Return the result for an image that cannot be there beside that of another clinic: it stays due."""
    return CopyResult(
        item.number,
        None,
        f"Image {item.held.sop_instance_uid}: another clinic has an image of this SOP Instance UID, and {where} keeps "
        "one: the first is there. A drive or a bucket holds both",
    )


def left_out(item: CopyItem) -> CopyResult:
    """Return the result for a version that another PACS is not sent."""
    return CopyResult(item.number, None, LEFT_OUT, is_left_out=True)


def key_of(held: StoredVersion) -> InstanceKey:
    """Return the three UIDs of a version."""
    return InstanceKey(held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid)


def has_same_content(file: ArchivedFile, data_set: BinaryIO, transfer_syntax_uid: str, size_bytes: int) -> bool:
    """Tell whether a Data Set in another encoding has all elements and each word of the pixels of a stored one.

    Raises
    ------
    InstanceRefused
        One of them cannot be read or decoded to its end.
    """
    until = time.monotonic() + _LONGEST_S
    folder = folder_of(file)
    try:
        found = digest_of_content(data_set, transfer_syntax_uid, size_bytes, folder, until)
        with file.data_set() as stream:
            ours = digest_of_content(stream, file.heading.transfer_syntax_uid, file.size_bytes, folder, until)
    except InstanceRefused as error:
        raise InstanceRefused(f"it came back in another encoding, and cannot be compared: {error}") from None
    return found == ours


def folder_of(file: ArchivedFile) -> Path:
    """Return the folder for temporary files: on the archive's own volume, because they hold patient data."""
    return file.path.parent
