"""Store images that come as metadata in JSON or XML, with bulk data in parts of their own (PS3.18 8.6.1.2, 10.5.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import msgspec
from pydicom.uid import (
    HTJ2K,
    JPEG2000MC,
    MPEG2MPML,
    MPEG4HP41,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from backup_scp.dicom.native_model_reader import read_native_model
from backup_scp.errors import BackupSCPError, InvalidDataSet
from backup_scp.ports import Heading, StagedFile
from backup_scp.web.dicomweb.request_body import IN_MEMORY
from backup_scp.web.dicomweb.stow.data_set_encoder import Bulk, encode
from backup_scp.web.dicomweb.stow.incoming_files import ImageKeeper
from backup_scp.web.dicomweb.stow.store_result import RequestedImage
from backup_scp.web.media_types import DICOM_JSON, DICOM_XML, JSON, OCTET_STREAM, parse_one
from backup_scp.web.problems import Problem

LONGEST_METADATA_BYTES = 8 << 20
MOST_INSTANCES = 10_000
_MOST_VALUES = 600_000  # of a part with JSON: a list of short values takes twenty times as much memory as its text
_CHUNK_BYTES = 1 << 20

# The Transfer Syntax of a media type that does not name one (PS3.18 Table 8.7.3-5).
_DEFAULTS = {
    "image/dicom-rle": RLELossless,
    "image/jls": JPEGLSLossless,
    "image/jp2": JPEG2000Lossless,
    "image/jpeg": JPEGLosslessSV1,
    "image/jphc": HTJ2K,
    "image/jpx": JPEG2000MC,
    "video/mp4": MPEG4HP41,
    "video/mpeg2": MPEG2MPML,
}
_NATIVE = frozenset({"", ImplicitVRLittleEndian, ExplicitVRLittleEndian})


@dataclass(slots=True)
class _BulkPart:
    """One bulk data part: where it is among all that came."""

    start: int
    transfer_syntax_uid: str
    size_bytes: int = 0


@dataclass(slots=True)
class _Spool:
    """All bulk data of a request, one after the other in one staged file, which never becomes an image."""

    file: StagedFile
    parts: dict[str, list[_BulkPart]] = field(default_factory=dict)  # by Content-Location


class _Document(NamedTuple):
    """One part with metadata, not read yet."""

    text: bytearray
    is_xml: bool

    def instances(self) -> list[Any]:
        read = _from_xml(bytes(self.text)) if self.is_xml else _from_json(self.text)
        return read if isinstance(read, list) else [read]


class IncomingMetadata:
    """Takes the parts of ``multipart/related`` whose type is ``application/dicom+json`` or ``application/dicom+xml``.

    Bulk data may come before or after what names it; so the images are stored when all has come.

    Parameters
    ----------
    keeper
        Stores the images.
    """

    def __init__(self, keeper: ImageKeeper) -> None:
        self._keeper = keeper
        self._metadata = bytearray()
        self._is_xml = False
        self._documents: list[_Document] = []
        self._metadata_bytes = 0
        self._spool: _Spool | None = None
        self._part: _BulkPart | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a part.

        Raises
        ------
        Problem
            400
        """
        self._metadata.clear()
        media_type = parse_one(headers.get("content-type", OCTET_STREAM))
        if media_type.name in (DICOM_JSON, DICOM_XML, JSON):
            self._part = None
            self._is_xml = media_type.name == DICOM_XML
            return
        location = headers.get("content-location", "")
        if not location:
            raise Problem(400, "A part with bulk data needs a Content-Location, which is its BulkDataURI")
        if self._spool is None:
            self._spool = _Spool(self._keeper.begin(Heading("", "", "")))
        syntax = media_type.transfer_syntax or _DEFAULTS.get(media_type.name, "")
        self._part = _BulkPart(self._spool.file.size_bytes, syntax)
        self._spool.parts.setdefault(location, []).append(self._part)

    def write(self, data: memoryview) -> None:
        """Write bulk data to the disk; metadata stay in memory.

        Raises
        ------
        Problem
            413, 503
        """
        if self._part is not None and self._spool is not None:
            self._spool.file.write(data)
            self._part.size_bytes += len(data)
            return
        self._metadata_bytes += len(data)
        if self._metadata_bytes > LONGEST_METADATA_BYTES:
            self._metadata_bytes -= len(data)
            raise _too_much(f"{LONGEST_METADATA_BYTES >> 20} MiB of metadata")
        try:
            IN_MEMORY.take(len(data))
        except Problem:
            self._metadata_bytes -= len(data)
            raise
        self._metadata += data

    def end(self) -> None:
        """End the part."""
        if self._part is None:
            self._documents.append(_Document(self._metadata, self._is_xml))
            self._metadata = bytearray()

    def finish(self) -> None:
        """Store the images; what was read of one part is dropped before the next.

        Raises
        ------
        Problem
            400: its JSON or XML is malformed.  413: it has too many values or images.
        """
        count = len(self._documents)  # each is of one image, or of a list of them
        _require_few(count)
        while self._documents:
            instances = self._documents.pop(0).instances()
            count += len(instances) - 1
            _require_few(count)
            for instance in instances:
                self._store(instance)

    def abandon(self) -> None:
        """Drop metadata and bulk data."""
        self._documents.clear()
        self._metadata.clear()
        IN_MEMORY.give_back(self._metadata_bytes)
        self._metadata_bytes = 0
        if self._spool is not None:
            self._spool.file.discard()
            self._spool = None

    def _store(self, instance: Any) -> None:
        image = RequestedImage(_text(instance, "00080016"), _text(instance, "00080018"))
        try:
            staged = self._staged(instance, image)
        except BackupSCPError as error:
            self._keeper.result.add_failure(image, error)
        else:
            self._keeper.keep(staged)

    def _staged(self, instance: Any, image: RequestedImage) -> StagedFile:
        if not image.sop_class_uid or not image.sop_instance_uid:
            raise InvalidDataSet("Metadata without SOP Class UID or SOP Instance UID")
        syntax = self._transfer_syntax(instance)
        is_encapsulated = syntax != ExplicitVRLittleEndian
        staged = self._keeper.begin(Heading(image.sop_class_uid, image.sop_instance_uid, syntax))
        try:
            for data in encode(instance, self._find, is_encapsulated=is_encapsulated):
                staged.write(data)
        except BaseException:
            staged.discard()
            raise
        return staged

    def _transfer_syntax(self, instance: Mapping[str, Any]) -> str:
        pixels = instance.get("7FE00010")
        uri = str(pixels.get("BulkDataURI", "")) if isinstance(pixels, dict) else ""
        syntaxes = {part.transfer_syntax_uid for part in self._parts(uri)} if uri else set()
        if syntaxes <= _NATIVE:
            return ExplicitVRLittleEndian
        if len(syntaxes) > 1:
            raise InvalidDataSet("The frames of an image have several Transfer Syntaxes")
        (syntax,) = syntaxes
        if syntax == "1.2.840.10008.1.2.2":
            raise InvalidDataSet("Bulk data in Big Endian cannot be stored: send it in Little Endian")
        return syntax

    def _parts(self, uri: str) -> Sequence[_BulkPart]:
        parts = self._spool.parts.get(uri) if self._spool is not None else None
        if not parts:
            raise InvalidDataSet("Bulk data that the metadata names is not in the request")
        return parts

    def _find(self, uri: str) -> Sequence[Bulk]:
        return [Bulk(part.size_bytes, partial(self._chunks, part)) for part in self._parts(uri)]

    def _chunks(self, part: _BulkPart) -> Iterator[bytes]:
        if self._spool is None:
            return
        with self._spool.file.data_set() as stream:
            stream.seek(stream.tell() + part.start)
            left = part.size_bytes
            while left:
                chunk = stream.read(min(left, _CHUNK_BYTES))
                left -= len(chunk)
                yield chunk


def _from_json(text: bytearray) -> Any:
    if sum(map(text.count, (b"{", b"[", b","))) > _MOST_VALUES:
        raise _too_much(f"{_MOST_VALUES:,} values in a part")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Problem(400, "A part with metadata is no JSON") from None


def _from_xml(text: bytes) -> Any:
    try:
        return read_native_model(text)
    except InvalidDataSet as error:
        raise Problem(400, str(error)) from None


def _require_few(images: int) -> None:
    if images > MOST_INSTANCES:
        raise _too_much(f"metadata of {MOST_INSTANCES:,} images")


def _too_much(most: str) -> Problem:
    return Problem(
        413,
        f"A request may have {most}. Send the images in several requests, or as application/dicom",
        {"Connection": "close"},
    )


def _text(instance: Any, tag: str) -> str:
    """Return the first value of an element; empty when there is none."""
    try:
        value = instance[tag]["Value"][0]
    except (KeyError, IndexError, TypeError):
        return ""
    return value if isinstance(value, str) else ""
