from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.index.connection.database import Database

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(params=ENGINES)
def accounts(request, tmp_path) -> Iterator[SQLAccounts]:
    """Yield an empty database of users on each engine."""
    if request.param == "sqlite":
        opened = SQLAccounts.in_file(tmp_path / "accounts.sqlite")
    else:
        opened = SQLAccounts.on_server(Database(request.getfixturevalue("postgres_url"), 8).engine)
        opened.upgrade()
    with contextlib.closing(opened):
        yield opened
