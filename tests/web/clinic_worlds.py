"""Two nodes for each test: one has the images of two clinics, the other those of one; and how their callers ask."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.machine import clock
from backup_scp.machine.disk_cache import DiskCache
from backup_scp.node.settings import load
from backup_scp.node.web_main import backup_state, document_writer
from backup_scp.ports import ShareLink, ShareSession
from backup_scp.services import restore_jobs
from backup_scp.services.backoff import Backoff
from backup_scp.services.inventory_listing import uid_of
from backup_scp.services.logins import Logins
from backup_scp.services.parcels import StudyParcels
from backup_scp.services.permissions import CallerKind
from backup_scp.services.secret_tokens import digest_of
from backup_scp.services.share_links import ShareLinks
from backup_scp.web.app import application
from backup_scp.web.options import WebOptions
from backup_scp.web.pages.page_sources import PageSources
from backup_scp.web.stores import Stores as WebStores
from tests.samples import ct_series, dx, encode, with_pixels
from tests.stored import Stored, stored_in
from tests.web.conftest import HOST, stores_of

TOKEN = hmac.new(bytes(32), f"{CallerKind.TOKEN} ".encode(), hashlib.sha256).hexdigest()
NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, UTC)
NORTH, SOUTH, ALL = ("north" * 8, "south" * 8, "every" * 8)
OPTIONS = WebOptions(
    tokens=frozenset({NORTH, SOUTH, ALL}), token_sites={NORTH: ("north",), SOUTH: ("south",)}, trust_this_machine=False
)

OF_NORTH = with_pixels(dx(PatientName="NORTH^A", PatientID="P1"))
OF_SOUTH = with_pixels(dx(study="south", PatientName="SOUTH^B", PatientID="P1", AccessionNumber="S1"))
OF_BOTH = with_pixels(dx(study="both", PatientName="BOTH^C", PatientID="P2"))
NOWHERE = dx(study="nowhere")
IDENTITY = "0123456789abcdef0123456789abcdef"
SETTINGS = """
[[remote]]
name = "north-console"
ae_title = "NORTH"
host = "192.0.2.7"
site = "north"
"""
OTHER_REMOTE = """
[[remote]]
name = "south-console"
ae_title = "SOUTH"
host = "192.0.2.8"
site = "south"
"""


def fill_north(stored) -> None:
    stored.archive.establish(IDENTITY)
    stored.put(encode(OF_NORTH), 1, site="north")
    stored.put(encode(OF_BOTH), 2, site="north")


def fill_south(stored) -> None:
    stored.put(encode(OF_SOUTH), 3, site="south")
    for n, ds in enumerate(ct_series(3, study="south")):
        stored.put(encode(ds), 4 + n, site="south")
    stored.put(encode(OF_BOTH), 9, site="south")
    stored.put(encode(with_pixels(dx(study="both", PatientName="BOTH^EDITED", PatientID="P2"))), 10, site="south")


ELSEWHERE = "192.0.2.1"
LINK, LINK_SESSION = "link" * 10, "session" * 6


@dataclass
class World:
    """One node."""

    stored: Stored
    sources: PageSources
    accounts: SQLAccounts

    @property
    def stores(self) -> WebStores:
        return self.sources.stores

    def client(self, options: WebOptions = OPTIONS, base: str = HOST, address: str = ELSEWHERE) -> TestClient:
        app = application(self.stores, options, pages=self.sources)
        return TestClient(app, base_url=base, client=(address, 50000), follow_redirects=False)


@contextlib.contextmanager
def world(stored, folder: Path, settings: str) -> Iterator[World]:
    file = folder / "settings.toml"
    file.write_text(settings)
    known = load(file, {"BACKUP_SCP_HOME": str(folder)})
    stores = stores_of(stored, DiskCache(folder / "cache", 1 << 24, 0))
    with contextlib.closing(SQLAccounts.in_file(folder / "accounts.sqlite")) as accounts:
        sources = PageSources(
            stores,
            lambda: backup_state(known, stored),
            stored.index,
            stored.index.copies.copies_of,
            known.remotes,
            "this node",
            folder / "receipts",
            logins=Logins(accounts),
            shares=shares_of(accounts, stored),
            share_address=HOST,
            parcels=StudyParcels(document_writer()),
        )
        yield World(stored, sources, accounts)


def shares_of(accounts: SQLAccounts, stored: Stored) -> ShareLinks:
    """Make the share link ``LINK``, to a study of north, and open it; it may be saved without end."""
    digest, study, until = digest_of(LINK), OF_NORTH.StudyInstanceUID, NOW + timedelta(days=3)
    made = accounts.add_share(
        ShareLink(0, digest, "", study, "north", may_save=True, made_by="", made_for="", made_at=NOW, until=until)
    )
    accounts.open_share(made.number, ShareSession(digest_of(LINK_SESSION), NOW + timedelta(minutes=30)), NOW)
    shares = ShareLinks(accounts, stored.index)
    shares._saved = Backoff(accounts, "share link saved", free=1_000_000)
    return shares


@contextlib.contextmanager
def two_worlds(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[tuple[World, World]]:
    """Yield the node of both clinics, and that of one."""
    patch.setattr("backup_scp.web.pages.form_guard.secrets", SimpleNamespace(token_bytes=bytes))
    one_folder, both_folder = folder / "one", folder / "both"
    one_folder.mkdir()
    with stored_in(one_folder) as stored:
        fill_north(stored)
    shutil.copytree(one_folder, both_folder)
    patch.setattr(clock, "now", lambda: NOW)
    with (
        stored_in(both_folder) as both,
        stored_in(one_folder) as one,
        world(both, both_folder, SETTINGS + OTHER_REMOTE) as of_both,
        world(one, one_folder, SETTINGS) as of_one,
    ):
        fill_south(both)
        restore_jobs.order(both.index, "this node", "south-console", [OF_SOUTH.StudyInstanceUID], NOW)
        yield of_both, of_one


def uids_of(ds) -> dict[str, str]:
    return {
        "study": ds.StudyInstanceUID,
        "series": ds.SeriesInstanceUID,
        "instance": ds.SOPInstanceUID,
        "frames": "1",
        "transaction": "1.2.3.4",
        "inventory": uid_of(f"{IDENTITY}north", NOW - timedelta(hours=1)),
        "path": "7FE00010",
        "name": "page.css",
        "link": LINK,
    }


def paths(path: str) -> Iterator[str]:
    """Yield a path with the UIDs of each image, and with those of two images mixed."""
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    mixed = itertools.product((OF_NORTH, OF_SOUTH), repeat=min(len(names), 3))
    whole = itertools.repeat(OF_BOTH, 3), itertools.repeat(NOWHERE, 3)
    for each in (*mixed, *whole):
        values = uids_of(OF_SOUTH) | {name: uids_of(ds)[name] for name, ds in zip(names, each, strict=False)}
        yield path.replace(":path", "").format_map(values)


ACCEPTED = ("*/*", "application/dicom+json", 'multipart/related; type="application/dicom"', "image/jpeg",
            'multipart/related; type="image/jpeg"')  # fmt: skip


def timeless(body: bytes) -> bytes:
    """Leave out when a PDF was made."""
    made = rb"/(CreationDate|ModDate) \([^)]*\)|/ID\s*\[[^\]]*\]"
    return re.sub(made, b"", body) if body.startswith(b"%PDF") else body


def ask(client: TestClient, token: str, method: str, url: str, accept: str = "*/*", **more: Any):
    """Return what a caller sees of an answer: all but the time, and the separator of its parts."""
    headers = {"authorization": f"Bearer {token}", "accept": accept} | more.pop("headers", {})
    answer = client.request(method, url, headers=headers, **more)
    content_type = answer.headers.get("content-type", "")
    boundary = content_type.partition("boundary=")[2].strip('"')
    seen = {name: text for name, text in answer.headers.items() if name != "date"}
    body = timeless(answer.content.replace(boundary.encode(), b"-") if boundary else answer.content)
    seen["content-type"] = content_type.replace(boundary, "-") if boundary else content_type
    return answer.status_code, seen, body
