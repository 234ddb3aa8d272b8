"""Send instances as DICOM files in a ZIP archive (PS3.18 8.7.3.2), written while it is sent."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from backup_scp.ports import StoredVersion
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.encodings import WantedEncoding, encoded
from backup_scp.web.media_types import Offer
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import StreamedResponse

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ZIP = Offer("application/zip")
_FIRST_DATE = 1980  # of ZIP
_CHUNK_BYTES = 1 << 18


class _Sink(io.RawIOBase):
    """Collects what ZipFile writes; it cannot be sought, so sizes follow the files."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        taken = bytes(data)
        self._written.append(taken)
        self.size += len(taken)
        return len(taken)

    def take(self) -> bytes:
        taken, self._written, self.size = b"".join(self._written), [], 0
        return taken


def zip_of(
    stores: Stores, held: Sequence[StoredVersion], wanted: WantedEncoding, status: int = 200
) -> StreamedResponse:
    """Return a ZIP archive: a folder a series, files by number; no name in it says whose they are."""
    headers = {"content-disposition": 'attachment; filename="images.zip"'}
    return StreamedResponse(_zip(stores, held, wanted), ZIP.name, headers=headers, status=status)


def _zip(stores: Stores, held: Sequence[StoredVersion], wanted: WantedEncoding) -> Iterator[bytes]:
    sink = _Sink()
    series = {uid: number for number, uid in enumerate(dict.fromkeys(one.series_instance_uid for one in held), 1)}
    with ZipFile(sink, "w", ZIP_STORED, allowZip64=True) as archive:
        for number, one in enumerate(held, 1):
            at = one.received_at.timetuple()[:6]
            name = f"series-{series[one.series_instance_uid]:03}/image-{number:05}.dcm"
            info = ZipInfo(name, at if at[0] >= _FIRST_DATE else (_FIRST_DATE, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            with resources.opened(stores, one) as file, encoded(file, wanted) as instance:
                info.file_size = instance.size
                with archive.open(info, "w", force_zip64=instance.size >= 1 << 31) as member:
                    for part in instance.parts(0, instance.size):
                        member.write(part)
                        if sink.size >= _CHUNK_BYTES:
                            yield sink.take()
    yield sink.take()
