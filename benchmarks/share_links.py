"""Time the opening of a share link on loopback, beside very many other links.

    python -m benchmarks.share_links --links 100000

An opening is what a phone waits for: the page that asks for the PIN, the PIN, and the page of the study.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import sqlalchemy as sa

from backup_scp.accounts.accounts_tables import share_link
from backup_scp.accounts.connection import AccountsDatabase, sqlite_engine
from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.machine import clock
from backup_scp.ports import ShareLink
from backup_scp.services.passwords import hashed_pin
from backup_scp.services.secret_tokens import digest_of
from benchmarks import images
from benchmarks.load import store
from benchmarks.nodes import Place
from benchmarks.users import LOOKED_AT, UsersNode, p95

OPENINGS = 100
AIM_MS = 50
TOKEN, PIN = "link" * 10, "123456"
_PART = 5_000
_TOKEN = re.compile(r'name="token" value="([^"]*)"')
_SMALL = re.compile(r'<img src="([^"]+)"')


def fill(node: UsersNode, links: int, study: str) -> None:
    """Make links: the one that is opened, and others."""
    from backup_scp.node.accounts_setup import FILE
    from backup_scp.node.settings import load

    now = clock.now()
    facts = {"study_instance_uid": study, "site": "", "may_save": True, "made_by": "benchmark", "made_for": "somebody"}
    times = {"made_at": now, "until": now + timedelta(days=30)}
    file = load(None, node.environment()).home / FILE
    with contextlib.closing(AccountsDatabase(sqlite_engine(file), upgrades=True)) as database:
        SQLAccounts(database).add_share(ShareLink(0, digest_of(TOKEN), hashed_pin(PIN, TOKEN), **facts, **times))  # type: ignore[arg-type]
        for first in range(0, links - 1, _PART):
            rows = [
                {"digest": digest_of(str(number)), "pin_hash": "", "opened": 0, "failures": 0, **facts, **times}
                for number in range(first, min(first + _PART, links - 1))
            ]
            with database.writing() as connection:
                connection.execute(sa.insert(share_link), rows)


class Phone:
    """A browser without a session at the beginning."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._cookie = ""

    def opening(self) -> Iterator[tuple[str, float]]:
        """Open the link; yield what was waited for, and how many ms."""
        path, began = f"/share/{TOKEN}", time.perf_counter()
        page, ms = self._asked("GET", path, 200)
        yield "the page that asks for the PIN", ms
        (token,) = _TOKEN.findall(page.decode())
        _, ms = self._asked("POST", path, 303, urlencode({"token": token, "pin": PIN}))
        yield "the PIN", ms
        page, ms = self._asked("GET", f"{path}/study", 200)
        yield "the page of the study", ms
        yield "an opening", (time.perf_counter() - began) * 1000
        yield "a small picture", self._asked("GET", _SMALL.findall(page.decode())[0], 200)[1]
        self._cookie = ""

    def _asked(self, method: str, path: str, status: int, form: str = "") -> tuple[bytes, float]:
        headers = {"Cookie": self._cookie, "Content-Type": "application/x-www-form-urlencoded"}
        began = time.perf_counter()
        self._connection.request(method, path, form or None, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        ms = (time.perf_counter() - began) * 1000
        if answer.status != status:
            raise SystemExit(f"{method} of a share link is answered with {answer.status}")
        self._cookie = (answer.headers["Set-Cookie"] or self._cookie).partition(";")[0]
        return body, ms


def report(node: UsersNode, links: int) -> None:
    """Print the table."""
    waited: dict[str, list[float]] = {}
    for number in range(OPENINGS + 1):
        for what, ms in Phone(node.web_port).opening():
            if number:  # the first one loads what the process needs
                waited.setdefault(what, []).append(ms)
    print(f"| {links:,} links, {OPENINGS} openings | median, ms | p95, ms | wanted |\n| --- | --- | --- | --- |")
    for what, found in waited.items():
        wanted = f"< {AIM_MS}" if what == "an opening" else ""
        print(f"| {what} | {statistics.median(found):.1f} | {p95(found):.1f} | {wanted} |")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the node keeps its data; by default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        node = UsersNode(Place(Path(folder) / "node"))
        node.start()
        try:
            looked_at = images.new(LOOKED_AT, 4)
            store(node.address, looked_at, 1)
            fill(node, arguments.links, looked_at[0].study)
            report(node, arguments.links)
        finally:
            node.stop()


if __name__ == "__main__":
    main()
