"""Transcode a Data Set for a destination that does not accept the stored Transfer Syntax.

It never compresses with loss and leaves nothing out: either the destination gets every pixel and every attribute, or
``InstanceRefused`` says why not.

==========================================  ======================================================================
stored in                                   what happens
==========================================  ======================================================================
Implicit VR LE, Explicit VR LE / BE,        each Value is copied byte for byte (swapped where the byte order
Deflated Explicit VR LE                     changes): ``element_walk.py``, ``reencoding.py``
JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE        the same, and each frame is decoded once: ``frames.py``,
                                            ``decoders.py``, ``decoder_process.py``
MPEG, HEVC, JPEG XL, JPIP, private          refused
==========================================  ======================================================================

Why the result can be trusted without a second decoder: Values are copied and never interpreted, so no character set,
unusual date or private attribute can be damaged.  The header of each codestream is read here and must have every pixel
and every bit that the Data Set describes (``codestreams.py``, ``image_pixel.py``).  A decoded frame is written
unchanged, and only when it has that shape; the number of frames must be that of the Data Set.  Decoding lossy pixels
keeps what is stored (PS3.5 8.2); (0028,2110) Lossy Image Compression stays as it is.

Three things depend on the encoding, carry no information, and change with it.  Sequences get undefined length
(PS3.5 7.5.1).  Retired Group Lengths are removed (PS3.5 7.2).  Elements that index or describe *encapsulated* Pixel
Data describe the decoded pixels instead (PS3.3 C.7.6.3: Photometric Interpretation, Planar Configuration, Extended
Offset Table).

Temporary files have no name and are in a folder that the caller chooses, because they hold patient data.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from backup_scp.dicom.transcode.decoders import DECODABLE, can_decode
from backup_scp.dicom.transcode.element_walk import BIG_ENDIAN, EXPLICIT, IMPLICIT, Encoding
from backup_scp.dicom.transcode.padding import Edit, applied, edits
from backup_scp.dicom.transcode.reencoding import Reencoding
from backup_scp.dicom.transcode.result import Transcoded, Transcoding, named
from backup_scp.dicom.uid_names import uid_name
from backup_scp.errors import InstanceRefused

__all__ = [
    "SMALL_BYTES",
    "Edit",
    "Transcoded",
    "Transcoding",
    "alternatives",
    "applied",
    "begin",
    "padding",
    "transcode",
    "write_plainly",
]

_NATIVE: dict[str, Encoding] = {
    str(ExplicitVRLittleEndian): EXPLICIT,
    str(ImplicitVRLittleEndian): IMPLICIT,
    str(DeflatedExplicitVRLittleEndian): EXPLICIT,
    str(ExplicitVRBigEndian): BIG_ENDIAN,
}
_DEFLATED = str(DeflatedExplicitVRLittleEndian)
_ALL_DEFLATED = frozenset({_DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})  # JPIP, PS3.5 A.6, A.8
SMALL_BYTES = 1 << 20
"""The longest Data Set, in bytes, that ``begin`` reads and writes in memory."""
_CHUNK_BYTES = 1 << 20
_INFLATED_LIMIT_BYTES = 1 << 32  # native Pixel Data has a 32-bit length; also a limit for deflate bombs

_COMPARED_LIMIT_BYTES = 1 << 28

_Step = Callable[[BinaryIO, int, BinaryIO], None]


def alternatives(transfer_syntax_uid: str) -> tuple[str, ...]:
    """List the Transfer Syntaxes to which this one can be transcoded here, the best first.

    A Storage SCU proposes them in addition to the stored one (PS3.4 B.5); empty when nothing is possible.
    """
    if transfer_syntax_uid in _NATIVE or can_decode(transfer_syntax_uid):
        return tuple(uid for uid in _NATIVE if uid != transfer_syntax_uid)
    return ()


def padding(data_set: BinaryIO, transfer_syntax_uid: str, size_bytes: int) -> list[Edit]:
    """Return the edits that make a Data Set of odd length even, see ``padding.edits``."""
    deflated = transfer_syntax_uid in _ALL_DEFLATED
    return edits(data_set, None if deflated else _NATIVE.get(transfer_syntax_uid, EXPLICIT), size_bytes)


def transcode(
    data_set: BinaryIO, transfer_syntax_uid: str, accepted: Sequence[str], size_bytes: int, folder: Path
) -> Transcoded:
    """Encode a stored Data Set in the best Transfer Syntax of ``accepted`` that keeps everything (PS3.5 10.1).

    Parameters
    ----------
    data_set
        At the Data Set's first byte; seekable.
    transfer_syntax_uid
        The Transfer Syntax in which it is stored.
    accepted
        The Transfer Syntaxes that the destination accepts for its SOP Class.  Explicit VR is preferred to Implicit
        VR, because it names the VR of private elements too; big endian is last.
    size_bytes
        Length of the Data Set.
    folder
        Folder for a temporary file without a name, when the result is larger than 1 MiB.

    Raises
    ------
    InstanceRefused
        No accepted syntax can hold it unchanged, no decoder is installed, or it cannot be read.
    """
    return begin(data_set, transfer_syntax_uid, accepted, size_bytes, folder).result()


def begin(
    data_set: BinaryIO, transfer_syntax_uid: str, accepted: Sequence[str], size_bytes: int, folder: Path
) -> Transcoding:
    """Start to ``transcode``, and do the work that need not wait.

    A small image of one frame is read now, and another process starts to decode it.

    Raises
    ------
    InstanceRefused
        See ``transcode``; or ``Transcoding.result`` raises it.
    """
    if transfer_syntax_uid in accepted:
        return Transcoding(lambda: Transcoded(data_set, transfer_syntax_uid, size_bytes), None, "")
    start = data_set.tell()
    target, why = _target(transfer_syntax_uid, accepted), _why(transfer_syntax_uid, accepted)
    if transfer_syntax_uid in DECODABLE and target != _DEFLATED and size_bytes <= SMALL_BYTES:
        with named(why):
            reencoding = Reencoding(EXPLICIT, _NATIVE[target], transfer_syntax_uid, data_set, size_bytes)
            if begun := reencoding.begin(SMALL_BYTES):
                memory, frame = begun
                done = Transcoded(memory, target, memory.seek(0, os.SEEK_END))
                memory.seek(0)
                return Transcoding(lambda: done, frame, why)
    steps = _steps(transfer_syntax_uid, target)

    def convert() -> Transcoded:
        data_set.seek(start)
        result, result_bytes = _convert(data_set, size_bytes, steps, folder)
        return Transcoded(result, target, result_bytes)

    return Transcoding(convert, None, why)


def write_plainly(
    data_set: BinaryIO,
    transfer_syntax_uid: str,
    size_bytes: int,
    folder: Path,
    result: BinaryIO,
    left_out: frozenset[int],
) -> None:
    """Write a Data Set in a form that does not depend on its encoding, which ``content.py`` hashes.

    Parameters
    ----------
    result
        Needs only ``write``.
    left_out
        Tags to leave out.

    Raises
    ------
    InstanceRefused
        It cannot be read or decoded to its end, or it is larger than 256 MiB after inflation.
    """
    compression = transfer_syntax_uid if transfer_syntax_uid in DECODABLE else None
    if transfer_syntax_uid not in _NATIVE and compression is None:
        raise InstanceRefused("there is no decoder for it here")
    steps: list[_Step] = []
    if transfer_syntax_uid == _DEFLATED:
        steps.append(partial(_inflate, limit_bytes=_COMPARED_LIMIT_BYTES))
    try:
        plain, plain_bytes = _convert(data_set, size_bytes, steps, folder)
        with plain if plain is not data_set else contextlib.nullcontext():
            encoding = _NATIVE.get(transfer_syntax_uid, EXPLICIT)
            Reencoding(encoding, IMPLICIT, compression, plain, plain_bytes, left_out=left_out).write(result)
    except OSError as error:
        raise InstanceRefused(error.strerror or type(error).__name__) from error


def _target(stored: str, accepted: Sequence[str]) -> str:
    native = [uid for uid in accepted if uid in _NATIVE]
    if not native:
        raise InstanceRefused(f"{_why(stored, accepted)}: no other Transfer Syntax keeps its pixels unchanged")
    if stored not in _NATIVE and stored not in DECODABLE:
        raise InstanceRefused(f"{_why(stored, accepted)}: there is no decoder for it here")
    return min(native, key=list(_NATIVE).index)


def _steps(stored: str, target: str) -> list[_Step]:
    steps: list[_Step] = [_inflate] if stored == _DEFLATED else []
    source_encoding = _NATIVE.get(stored, EXPLICIT)
    if source_encoding != _NATIVE[target] or stored in DECODABLE:
        compression = stored if stored in DECODABLE else None
        steps.append(partial(_reencode, source_encoding, _NATIVE[target], compression))
    if target == _DEFLATED:
        steps.append(_deflate)
    return steps


def _convert(data_set: BinaryIO, size_bytes: int, steps: Sequence[_Step], folder: Path) -> tuple[BinaryIO, int]:
    """Run the steps one after another; close the intermediate results."""
    result, result_bytes = data_set, size_bytes
    for step in steps:
        given = result
        try:
            result, result_bytes = _run(step, given, result_bytes, folder)
        finally:
            if given is not data_set:
                given.close()
    return result, result_bytes


def _run(step: _Step, source: BinaryIO, size_bytes: int, folder: Path) -> tuple[BinaryIO, int]:
    """Run one step into a new temporary file, which is removed when the step fails."""
    result = cast("BinaryIO", SpooledTemporaryFile(max_size=SMALL_BYTES, dir=str(folder)))  # noqa: SIM115
    try:
        step(source, size_bytes, result)
        result_bytes = result.tell()
        result.seek(0)
    except BaseException:
        result.close()
        raise
    return result, result_bytes


def _reencode(
    source_encoding: Encoding,
    target_encoding: Encoding,
    compression: str | None,
    source: BinaryIO,
    size_bytes: int,
    result: BinaryIO,
) -> None:
    Reencoding(source_encoding, target_encoding, compression, source, size_bytes).write(result)


def _inflate(source: BinaryIO, size_bytes: int, result: BinaryIO, limit_bytes: int | None = None) -> None:
    """Inflate (PS3.5 A.5, RFC 1951); the result is the Explicit VR Little Endian Data Set, bit for bit."""
    limit_bytes = limit_bytes or _INFLATED_LIMIT_BYTES
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left = size_bytes
    try:
        while not inflater.eof and (data := source.read(min(_CHUNK_BYTES, left))):
            left -= len(data)
            while data:
                result.write(inflater.decompress(data, _CHUNK_BYTES))
                data = inflater.unconsumed_tail
                if result.tell() > limit_bytes:
                    raise InstanceRefused(f"inflated it is larger than {limit_bytes >> 20} MiB")
    except zlib.error as error:
        raise InstanceRefused("its deflated bytes are damaged") from error
    result.write(inflater.flush())
    if not inflater.eof:
        raise InstanceRefused("its deflated bytes end too early")


def _deflate(source: BinaryIO, size_bytes: int, result: BinaryIO) -> None:
    """Deflate an Explicit VR Little Endian Data Set and pad it to even length (PS3.5 A.5)."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    left = size_bytes
    while data := source.read(min(_CHUNK_BYTES, left)):
        left -= len(data)
        result.write(deflater.compress(data))
    result.write(deflater.flush())
    if left:
        raise InstanceRefused("it ends too early")
    if result.tell() % 2:
        result.write(b"\0")


def _why(stored: str, accepted: Sequence[str]) -> str:
    """Name the stored and the accepted Transfer Syntaxes."""
    names = ", ".join(uid_name(uid) for uid in accepted)
    taken = f"only {names}" if names else "no Transfer Syntax"
    return f"Stored as {uid_name(stored)}, and the destination accepts {taken}"
