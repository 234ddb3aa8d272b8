"""Choose the Transfer Syntax of an answer (PS3.18 8.7.3), and encode instances in it without loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.uid import ExplicitVRLittleEndian

from backup_scp.dicom import transcode
from backup_scp.dicom.file_header import file_header
from backup_scp.dicom.file_meta import Heading
from backup_scp.errors import InstanceRefused
from backup_scp.services.verified_files import PART_BYTES, VerifiedFile
from backup_scp.web.media_types import MediaType, Offer
from backup_scp.web.problems import Problem
from backup_scp.web.streamed import Part

AS_STORED = "*"
DEFAULT = str(ExplicitVRLittleEndian)
"""Of DICOM and of uncompressed pixels, when the caller names none (PS3.18 8.7.3.5)."""


@dataclass(frozen=True)
class WantedEncoding:
    """The Transfer Syntaxes that a caller accepts, the best first; ``*`` is the stored one."""

    syntaxes: tuple[str, ...]

    @classmethod
    def of(cls, ranges: Sequence[MediaType], offer: Offer, default: str = DEFAULT) -> WantedEncoding:
        """Collect them from the media types that include the one that is sent."""
        covering = [each for each in ranges if each.q > 0 and each.covers(offer.name, offer.root)]
        return cls(tuple(dict.fromkeys(each.transfer_syntax or default for each in covering)) or (default,))

    def choice(self, stored: str) -> str | None:
        """Return the Transfer Syntax in which a stored one is sent; None when there is no lossless way."""
        possible = transcode.alternatives(stored)
        for each in self.syntaxes:
            if each in (AS_STORED, stored):
                return stored
            if each in possible:
                return each
        return None

    def required(self, stored: str) -> str:
        """Return the same.

        Raises
        ------
        Problem
            406
        """
        choice = self.choice(stored)
        if choice is None:
            possible = ", ".join((stored, *transcode.alternatives(stored)))
            raise Problem(
                406,
                f"It is stored in Transfer Syntax {stored}, and cannot be sent in {', '.join(self.syntaxes)} without "
                f"loss: ask for transfer-syntax=*, or for one of {possible}",
            )
        return choice


@dataclass(frozen=True)
class EncodedInstance:
    """An instance as a DICOM file (PS3.10), ready to be sent.

    Attributes
    ----------
    transfer_syntax_uid
        Its encoding.
    size
        Its length in bytes.
    parts
        Yields so many bytes from a position.
    """

    transfer_syntax_uid: str
    size: int
    parts: Callable[[int, int], Iterator[Part]]


@contextmanager
def encoded(file: VerifiedFile, wanted: WantedEncoding) -> Iterator[EncodedInstance]:
    """Give an instance in the best Transfer Syntax that the caller accepts, as a DICOM file.

    Raises
    ------
    Problem
        406
    """
    stored = file.transfer_syntax_uid
    syntax = wanted.required(stored)
    header = file_header(Heading(file.held.sop_class_uid, file.held.sop_instance_uid, syntax))
    if syntax == stored:
        yield EncodedInstance(syntax, len(header) + file.size_bytes, _behind(header, file.parts))
        return
    try:
        result = transcode.transcode(file.stream(), stored, [syntax], file.size_bytes, file.file.path.parent)
    except InstanceRefused as error:
        raise Problem(
            406,
            f"SOP Instance {file.held.sop_instance_uid} cannot be sent in {syntax}: {error}; ask for transfer-syntax=*",
        ) from error
    with result.data_set as data_set:

        def parts(position: int, length: int) -> Iterator[Part]:
            data_set.seek(position)
            while length > 0 and (part := data_set.read(min(PART_BYTES, length))):
                length -= len(part)
                yield part

        yield EncodedInstance(syntax, len(header) + result.size_bytes, _behind(header, parts))


def _behind(header: bytes, parts: Callable[[int, int], Iterator[Part]]) -> Callable[[int, int], Iterator[Part]]:
    def both(position: int, length: int) -> Iterator[Part]:
        if head := header[position : position + length]:
            yield head
        yield from parts(max(0, position - len(header)), length - len(head))

    return both
