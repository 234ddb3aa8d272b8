"""The web room in this process: real archive and index, and a client without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from backup_scp.machine.disk_cache import DiskCache
from backup_scp.machine.recent import Recent
from backup_scp.services.ingest import Ingest
from backup_scp.services.inventory_listing import InventoryOfAll
from backup_scp.web.app import application
from backup_scp.web.dicomweb.wado import rendered
from backup_scp.web.options import BASE_PATH, WebOptions
from backup_scp.web.stores import Stores
from tests.stored import Stored, stored_in

HOST = "http://127.0.0.1:8042"
BASE = HOST + BASE_PATH


@pytest.fixture
def stored(tmp_path) -> Iterator[Stored]:
    """An archive and an index, empty; ``stored.put(sample)`` brings an image in."""
    with stored_in(tmp_path) as stored:
        yield stored


@pytest.fixture(autouse=True)
def no_thumbnails(monkeypatch):
    """Forget the pictures that the process remembers of other tests: their images may be the same."""
    monkeypatch.setattr(rendered, "_thumbnails", Recent(1_000_000, len))


def stores_of(stored: Stored, cache: DiskCache | None = None) -> Stores:
    """Return what handlers use, on this archive and index."""
    return Stores(
        stored.index,
        stored.archive,
        Ingest(stored.archive, stored.index),
        stored.index.commitments,
        InventoryOfAll(stored.archive, stored.index),
        stored.index.record_verification,
        index_is_embedded=True,
        cache=cache,
    )


def stores_of_index(index: Any) -> Stores:
    """Return what searches use: an index alone."""
    nothing: Any = None
    return Stores(index, nothing, nothing, nothing, nothing, index_is_embedded=True)


def client_of(
    stored: Stored,
    options: WebOptions | None = None,
    address: str = "127.0.0.1",
    base: str = BASE,
    cache: DiskCache | None = None,
) -> TestClient:
    """Return a client; its paths are below ``/dicom-web``."""
    app = application(stores_of(stored, cache), options or WebOptions())
    client = TestClient(app, base_url=base, client=(address, 50000), follow_redirects=False)
    client.headers["accept"] = "*/*"
    return client


@pytest.fixture
def make_client(stored) -> Callable[..., TestClient]:
    """Return ``make_client(options, address, base)``: a client of the stored images."""
    return lambda *arguments, **named: client_of(stored, *arguments, **named)


@pytest.fixture
def web(make_client) -> TestClient:
    """Return a client on the node's own computer."""
    return make_client()
