"""Measure a console that sends without a pause beside users who look at images, and how long they wait for pages.

    python -m benchmarks.users

Each user has logged in, and goes from the list to a search, to a study and its thumbnails, to a frame, and thinks for
one to three seconds after each.  They come and go in turns, next to turns of the console alone: a machine may change
its speed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import multiprocessing
import random
import re
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from benchmarks import images
from benchmarks.load import store
from benchmarks.nodes import Place
from benchmarks.table import Table
from benchmarks.web import HEADER, WebBackupSCP
from benchmarks.web_frames import AS_STORED

USERS, ROUNDS, STORED = 50, 4, 60
THINKS_S = (1.0, 3.0)
ON_THE_SCREEN = 8
"""Thumbnails that a browser fetches of a list at once; it fetches the others when somebody scrolls."""

LOOKED_AT = images.Kind("CR", "1.2.840.10008.5.1.4.1.1.1", "CR", 1500, 1200)
PAGES = ("list", "search", "study")

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_THUMBNAIL = re.compile(r'<img src="(/dicom-web/[^"]+)"')
_TOKEN = re.compile(r'name="token" value="([^"]*)"')
_WAIT_S = 120.0


class Waited(NamedTuple):
    """How long somebody waited for something."""

    what: str
    at: float
    ms: float


class UsersNode(WebBackupSCP):
    """A node at which everybody logs in."""

    def environment(self) -> dict[str, str]:
        """Give its settings."""
        return super().environment() | {"BACKUP_SCP_NODE__TRUST_THIS_MACHINE": "false"}

    def add_users(self, count: int) -> list[tuple[str, str]]:
        """Add users, each of whom may see all; return their names and passwords."""
        from backup_scp.node.accounts_setup import open_accounts
        from backup_scp.node.settings import load
        from backup_scp.ports import Role
        from backup_scp.services.user_changes import Actor, UserChanges, roles_of

        by, added = Actor("benchmark"), []
        with contextlib.closing(open_accounts(load(None, self.environment()))) as accounts:
            changes = UserChanges(accounts)
            for number in range(count):
                name, password = f"user-{number}", secrets.token_urlsafe(16)
                changes.set_password(changes.add(name, roles_of(Role.RESTORE, []), by), password, by)
                added.append((name, password))
        return added


class User:
    """One user in a browser, with one connection."""

    def __init__(self, port: int, seed: int, studies: Sequence[images.Instance]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WAIT_S)
        self._draw = random.Random(seed)
        self._seen: set[str] = set()
        self._cookies = SimpleCookie()
        self._steps = itertools.islice(self._walk(studies), seed % 4, None)  # not all see the same at once
        self.waited: list[Waited] = []

    def log_in(self, name: str, password: str) -> None:
        """Log in as at the page."""
        page = self._get("/login")
        (token,) = _TOKEN.findall(page.decode())
        form = urlencode({"token": token, "next": "/", "name": name, "password": password})
        answer = self._answer("POST", "/login", form, **_FORM)
        answer.read()
        if answer.status != 303:
            raise SystemExit(f"{name} cannot log in: {answer.status}")

    def work(self, ended: threading.Event) -> None:
        """Go on until it is over."""
        ended.wait(self._draw.uniform(0, THINKS_S[1]))
        while not ended.is_set():
            what, path = next(self._steps)
            page = self._timed(what, path)
            for thumbnail in self._new_thumbnails(page) if what in PAGES else ():
                self._timed("thumbnail", thumbnail)
            ended.wait(self._draw.uniform(*THINKS_S))

    def _walk(self, studies: Sequence[images.Instance]) -> Iterator[tuple[str, str]]:
        while True:
            yield from self._one(self._draw.choice(studies))

    def _one(self, chosen: images.Instance) -> Iterator[tuple[str, str]]:
        yield "list", "/studies"
        patient = sum(map(ord, chosen.study)) % 97  # as ``images`` names them
        yield "search", f"/studies?{urlencode({'q': f'nobody{patient:02}'})}"
        yield "study", f"/study?{urlencode({'uid': chosen.study})}"
        yield (
            "frame",
            f"/dicom-web/studies/{chosen.study}/series/{chosen.study}.1/instances/{chosen.sop_instance}/frames/1",
        )

    def _new_thumbnails(self, page: bytes) -> list[str]:
        found = [path for path in _THUMBNAIL.findall(page.decode())[:ON_THE_SCREEN] if path not in self._seen]
        self._seen.update(found)
        return found

    def _timed(self, what: str, path: str) -> bytes:
        began = time.perf_counter()
        body = self._get(path, AS_STORED if what == "frame" else "*/*")
        self.waited.append(Waited(what, began, (time.perf_counter() - began) * 1000))
        return body

    def _get(self, path: str, accept: str = "text/html") -> bytes:
        answer = self._answer("GET", path, Accept=accept)
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} is answered with {answer.status}")
        return body

    def _answer(self, method: str, path: str, body: str | None = None, **headers: str) -> http.client.HTTPResponse:
        kept = "; ".join(f"{name}={cookie.value}" for name, cookie in self._cookies.items() if cookie.value)
        self._connection.request(method, path, body, {"Cookie": kept, **headers})
        answer = self._connection.getresponse()
        for each in answer.headers.get_all("Set-Cookie", []):
            self._cookies.load(each)
        return answer


def _users(port: int, logins: Sequence[tuple[str, str]], studies: Sequence[images.Instance], told: Connection) -> None:
    """Be all users, in a process of their own: work between two words, tell what each has waited for, and again."""
    users = [User(port, seed, studies) for seed in range(len(logins))]
    for user, (name, password) in zip(users, logins, strict=True):
        user.log_in(name, password)
    told.send("logged in")
    with ThreadPoolExecutor(len(users)) as pool:
        while told.recv() == "work":
            ended = threading.Event()
            working = [pool.submit(user.work, ended) for user in users]
            told.recv()
            ended.set()
            for one in working:
                one.result()
            told.send([waited for user in users for waited in user.waited])
            for user in users:
                user.waited.clear()


@contextlib.contextmanager
def users_of(port: int, logins: Sequence[tuple[str, str]], studies: Sequence[images.Instance]) -> Iterator[Connection]:
    """Let users log in; they wait for the word to work."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_users, args=(port, logins, studies, theirs))
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield ours
        ours.send("go home")
        process.join()
    finally:
        process.kill()
        process.join()


def p95(values: Sequence[float]) -> float:
    """Return what 95 of 100 values are not above."""
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else sum(values)


def measure(node: UsersNode, users: Connection, rounds: int, stored: int) -> Table:
    """Send from the console alone and beside the users, in turns that are compared with their neighbours."""
    table = Table(["alone", "beside users"], ("beside users", "alone"), "wanted")
    all_waited: list[Waited] = []
    for turn in range(2 * rounds):
        order = (False, True) if turn % 2 == 0 else (True, False)
        for is_beside in order:
            sent = images.new(images.DR, stored)
            if is_beside:
                users.send("work")
                time.sleep(THINKS_S[1])  # until all have begun
            began = time.perf_counter()
            before_s, column = node.cpu_s(), "beside users" if is_beside else "alone"
            rate = store(node.address, sent, 1).rate
            ended = time.perf_counter()
            table.add("C-STORE of DR, images/s", column, rate, "0.85 of alone")
            table.add("cores that the node uses", column, (node.cpu_s() - before_s) / (ended - began))
            if is_beside:
                users.send("stop")
                all_waited += [one for one in users.recv() if began <= one.at <= ended]
    for what in (*PAGES, "thumbnail", "frame"):
        if found := [one.ms for one in all_waited if one.what == what]:
            table.add(f"{what}: median, ms", "beside users", statistics.median(found))
            table.add(f"{what}: p95 of {len(found)}, ms", "beside users", p95(found))
    pages = [one.ms for one in all_waited if one.what in PAGES]
    table.add(f"a page: p95 of {len(pages)}, ms", "beside users", p95(pages), "< 300")
    return table


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--images", type=int, default=STORED, help="DR images of a turn")
    parser.add_argument("--studies", type=int, default=20_000, help="studies in the index besides those looked at")
    parser.add_argument("--folder", type=Path, help="where the node keeps its data; by default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        node = UsersNode(Place(Path(folder) / "node"))
        node.start()
        try:
            store(node.address, images.new(HEADER, arguments.studies), 4)
            looked_at = images.new(LOOKED_AT, 100)
            store(node.address, looked_at, 2)
            logins = node.add_users(arguments.users)
            with users_of(node.web_port, logins, looked_at) as users:
                print(measure(node, users, arguments.rounds, arguments.images).markdown("work"))
        finally:
            node.stop()


if __name__ == "__main__":
    main()
