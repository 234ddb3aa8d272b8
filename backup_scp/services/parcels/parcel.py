"""What is taken along, and what it is made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from backup_scp.ports import StudyReader
from backup_scp.services.verified_files import VerifiedFiles


class ParcelKind(StrEnum):
    """A way to take a study along."""

    DICOM = "dicom"
    PICTURES = "pictures"
    DOCUMENT = "document"


@dataclass(frozen=True)
class Parcel:
    """One file to take along.

    Attributes
    ----------
    name
        Of the file; it says nothing of the patient.
    media_type
        Of its content.
    parts
        Its content, made while it is sent.  When an image is damaged, ``Damaged`` is raised in the middle: the end must
        never follow then, nor anything that makes the file look whole.  A study without pictures raises
        ``InstanceRefused`` at the first part.
    """

    name: str
    media_type: str
    parts: Iterator[bytes]


@dataclass(frozen=True)
class Seen:
    """What the person may see.

    Attributes
    ----------
    index, files
        Narrowed: both ``seen_by`` the person's sites, or those of a link.
    """

    index: StudyReader
    files: VerifiedFiles


class Words(Protocol):
    """The words in the person's language: texts ``parcel.…`` of the pages."""

    def __call__(self, name: str, /, **values: object) -> str:
        """Return a sentence with its values."""
