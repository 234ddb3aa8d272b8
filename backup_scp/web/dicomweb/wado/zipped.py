"""Send instances as DICOM files in a ZIP archive (PS3.18 8.7.3.2), written while it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backup_scp.machine.zip_stream import ZipStream
from backup_scp.ports import StoredVersion
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.encodings import WantedEncoding, encoded
from backup_scp.web.media_types import Offer
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import StreamedResponse

ZIP = Offer("application/zip")


def zip_of(
    stores: Stores, held: Sequence[StoredVersion], wanted: WantedEncoding, status: int = 200
) -> StreamedResponse:
    """Return a ZIP archive: a folder a series, files by number; no name in it says whose they are."""
    headers = {"content-disposition": 'attachment; filename="images.zip"'}
    return StreamedResponse(_zip(stores, held, wanted), ZIP.name, headers=headers, status=status)


def _zip(stores: Stores, held: Sequence[StoredVersion], wanted: WantedEncoding) -> Iterator[bytes]:
    series = {uid: number for number, uid in enumerate(dict.fromkeys(one.series_instance_uid for one in held), 1)}
    with ZipStream() as stream:
        for number, one in enumerate(held, 1):
            name = f"series-{series[one.series_instance_uid]:03}/image-{number:05}.dcm"
            with resources.opened(stores, one) as file, encoded(file, wanted) as instance:
                yield from stream.add(name, one.received_at, instance.size, instance.parts(0, instance.size))
        yield from stream.end()
