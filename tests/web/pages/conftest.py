"""The pages in this process: real archive, index and settings, and a client without a network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.node.attempts import Attempt, answered
from backup_scp.node.settings import Settings, load
from backup_scp.node.settings_editor import SettingsEditor
from backup_scp.node.web_main import backup_state, document_writer
from backup_scp.ports import PlaceAnswer
from backup_scp.services.logins import Logins
from backup_scp.services.parcels import StudyParcels
from backup_scp.services.provider_logins import ProviderLogins
from backup_scp.services.share_links import ShareLinks
from backup_scp.web.app import application
from backup_scp.web.options import WebOptions
from backup_scp.web.pages import state_feed
from backup_scp.web.pages.backup_state import BackupState
from backup_scp.web.pages.page_sources import PageSources
from tests.web.conftest import HOST, stores_of

TOKEN = "0123456789abcdef0123456789abcdef"
ELSEWHERE = "192.0.2.1"


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[[remote]]\nname = "dx-room-1"\nae_title = "DX"\nhost = "192.0.2.7"\n')
    return load(file, {"BACKUP_SCP_HOME": str(tmp_path)})


@pytest.fixture(autouse=True)
def patience(monkeypatch) -> None:
    """Let a page wait for the state, however busy this machine is."""
    monkeypatch.setattr(state_feed, "PATIENCE_S", 60.0)


@pytest.fixture
def accounts(tmp_path) -> Iterator[SQLAccounts]:
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def orders() -> list[int]:
    """What the node was told."""
    return []


@pytest.fixture
def make_pages(stored, settings, orders, tmp_path, accounts) -> Callable[..., TestClient]:
    """Return ``make_pages(options, address, found, ...)``: a browser, as far as a client without a network is one."""

    def make(
        options: WebOptions | None = None,
        address: str = "127.0.0.1",
        found: Callable[[], BackupState] = lambda: backup_state(settings, stored),
        *,
        running: Settings | None = None,
        environment: dict[str, str] | None = None,
        attempted: Callable[[Attempt], list[PlaceAnswer]] = answered,
        share_address: str = HOST,
        logins: Logins | None = None,
        provider: ProviderLogins | None = None,
        parcels: StudyParcels | None = None,
    ) -> TestClient:
        sources = PageSources(
            stores_of(stored),
            found,
            stored.index,
            stored.index.copies.copies_of,
            settings.remotes,
            "this node",
            tmp_path / "receipts",
            lambda: orders.append(1),
            SettingsEditor(running or settings, environment or {}, attempted),
            parcels=parcels or StudyParcels(document_writer()),
            logins=logins or Logins(accounts),
            shares=ShareLinks(accounts, stored.index),
            share_address=share_address,
            provider=provider,
        )
        app = application(sources.stores, options or WebOptions(), pages=sources)
        return TestClient(app, base_url=HOST, client=(address, 50000), follow_redirects=False)

    return make


@pytest.fixture
def pages(make_pages) -> TestClient:
    return make_pages()
