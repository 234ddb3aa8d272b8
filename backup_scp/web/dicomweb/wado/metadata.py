"""Retrieve metadata: all but long binary values, which get a URI each (PS3.18 10.4.1.1.5)."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response

from backup_scp.dicom.model_text import JSON as IN_JSON
from backup_scp.dicom.model_text import XML as IN_XML
from backup_scp.dicom.model_text import ModelText, data_set_text
from backup_scp.dicom.native_model import document
from backup_scp.errors import Damaged, InstanceRefused
from backup_scp.ports import StoredVersion
from backup_scp.services.permissions import Right
from backup_scp.services.plain_data_set import plain
from backup_scp.web import media_types
from backup_scp.web.byte_ranges import not_modified
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.indexed_attributes import indexed_attributes
from backup_scp.web.dicomweb.wado.kept_metadata import InstanceText, json_array, missing
from backup_scp.web.media_types import DICOM_JSON, DICOM_XML, JSON, MULTIPART, Offer
from backup_scp.web.multipart_writer import MultipartWriter
from backup_scp.web.problems import Problem
from backup_scp.web.route import Route, base_of
from backup_scp.web.stores import Stores
from backup_scp.web.streamed import StreamedResponse, gathered

OFFERS = (Offer(DICOM_JSON), Offer(JSON), Offer(MULTIPART, DICOM_XML))
_THREADS = 4  # of all requests
_AHEAD = 4  # batches that are read while the ones before are sent
_MOST_IN_BATCH = 8
_BATCH_BYTES = 8 << 20

_IDENTITY = ((0x00080016, "sop_class_uid"), (0x00080018, "sop_instance_uid"))
_ABOVE = ((0x0020000D, "study_instance_uid"), (0x0020000E, "series_instance_uid"))


def metadata(request: Request, stores: Stores) -> Response:
    """Answer a request for the metadata of a study, series or instance."""
    offer = media_types.require(request, OFFERS)
    held = resources.versions(request, stores)
    texts = _one if "instance" in request.path_params else _in_order
    generation = "" if texts is _one else _damage.generation
    tag = resources.etag(held, f"metadata {offer} {base_of(request)} {generation}")
    if unchanged := not_modified(request, tag):
        return unchanged
    if offer.root:
        writer = MultipartWriter(DICOM_XML)
        parts = _multipart(writer, texts(stores, held, IN_XML, base_of(request)))
        return StreamedResponse(gathered(parts), writer.content_type, headers={"etag": f"W/{tag}"})

    def listed(series: Sequence[StoredVersion], base: str) -> Iterator[InstanceText]:
        return texts(stores, series, IN_JSON, base)

    parts = json_array(stores.cache, held, base_of(request), listed)
    return StreamedResponse(parts, offer.name, headers={"etag": tag})


def made_ahead(stores: Stores, held: Sequence[StoredVersion]) -> Iterator[None]:
    """Make the metadata of these versions, and keep them, in this thread; yield while they are made."""

    def texts(series: Sequence[StoredVersion], base: str) -> Iterator[InstanceText]:
        for one in series:
            yield _text_or_identity(stores, one, IN_JSON, f"{base}{resources.path_of(one)}/bulkdata/")

    if stores.cache is not None:
        for _ in missing(stores.cache, held, texts):
            yield


def _multipart(writer: MultipartWriter, texts: Iterable[InstanceText]) -> Iterator[bytes]:
    for one in texts:
        yield writer.head(DICOM_XML) + document(one.text)
    yield writer.end()


class _HeaderPool:
    """Threads that read ahead for all requests; started with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, "metadata")
            return self._pool


_readers = _HeaderPool()


class _DamageMet:
    """Counts the damaged images whose metadata were asked for.

    Attributes
    ----------
    generation
        Part of entity tags: no answer without them has the tag of a later one, which may be complete again.
    """

    def __init__(self) -> None:
        self._process = secrets.token_hex(8)
        self._count = itertools.count(1)
        self.generation = self._process

    def note(self) -> None:
        self.generation = f"{self._process} {next(self._count)}"


_damage = _DamageMet()


def _one(
    stores: Stores, held: Sequence[StoredVersion], model: ModelText, base: str
) -> Generator[InstanceText, None, None]:
    """Yield the text of a single instance."""
    yield _text(stores, held[0], model, f"{base}{resources.path_of(held[0])}/bulkdata/")


def _in_order(
    stores: Stores, held: Sequence[StoredVersion], model: ModelText, base: str
) -> Generator[InstanceText, None, None]:
    """Yield the text of each instance; some are read ahead."""

    def texts(batch: Sequence[StoredVersion]) -> list[InstanceText]:
        return [_text_or_identity(stores, one, model, f"{base}{resources.path_of(one)}/bulkdata/") for one in batch]

    waiting = _batches(held)
    begun: deque[Future[list[InstanceText]]] = deque()
    try:
        while True:
            begun += [_readers.pool.submit(texts, batch) for batch in islice(waiting, _AHEAD - len(begun))]
            if not begun:
                return
            yield from begun.popleft().result()
    finally:
        for each in begun:
            each.cancel()


def _batches(held: Iterable[StoredVersion]) -> Iterator[list[StoredVersion]]:
    """Yield what a thread reads at once: little at first, because somebody waits, then more.

    To pass each image alone between threads takes a seventh of the time.
    """
    batch: list[StoredVersion] = []
    size, most = 0, 1
    for one in held:
        batch.append(one)
        size += one.size_bytes
        if len(batch) >= most or size >= _BATCH_BYTES:
            yield batch
            batch, size, most = [], 0, min(2 * most, _MOST_IN_BATCH)
    if batch:
        yield batch


def _text_or_identity(stores: Stores, held: StoredVersion, model: ModelText, bulk_uri: str) -> InstanceText:
    """Return the text of an instance of a study or series: of a damaged one, what the index knows (docs/adr/0055)."""
    try:
        return _text(stores, held, model, bulk_uri)
    except (Problem, Damaged) as error:
        if isinstance(error, Problem) and error.status != 500:
            raise
        _damage.note()
        return InstanceText(model.item(indexed_attributes(stores.index, held, model)), is_of_version=False)


def _text(stores: Stores, held: StoredVersion, model: ModelText, bulk_uri: str) -> InstanceText:
    with resources.opened(stores, held) as file:
        is_of_version = file.held.sha256 == held.sha256
        try:
            with plain(file) as data_set:
                text = data_set_text(
                    data_set.read_at, data_set.size_bytes, data_set.transfer_syntax_uid, model, bulk_uri
                )
        except InstanceRefused:  # deflated, and cannot be inflated
            return InstanceText(model.item(_identity(held, model)), is_of_version)
    if not text.is_whole and not any("00080018" in element[:40] for element in text.elements):
        return InstanceText(model.item(_identity(held, model)), is_of_version)  # bytes that are no Data Set
    return InstanceText(model.item(text.elements), is_of_version)


def _identity(held: StoredVersion, model: ModelText) -> Iterator[str]:
    """Yield what is known of an instance whose Data Set cannot be read."""
    for tag, name in (*_IDENTITY, *_ABOVE):
        yield model.values(tag, "UI", getattr(held, name))


ROUTES = tuple(
    Route(f"{path}/metadata", "GET", f"Retrieve {name} Metadata", "10.4", Right.RETRIEVE, metadata, OFFERS)
    for name, path in (
        ("Study", "/studies/{study}"),
        ("Series", "/studies/{study}/series/{series}"),
        ("Instance", "/studies/{study}/series/{series}/instances/{instance}"),
    )
)
