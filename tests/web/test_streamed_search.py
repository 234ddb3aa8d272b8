"""A search of a million studies: sent while it is found, with constant memory."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import Any, cast

import pytest

from backup_scp.dicom.query.information_model import Query
from backup_scp.errors import IndexUnavailable
from backup_scp.index.reading.select import returned_keys
from backup_scp.ports import Match
from backup_scp.web.app import application
from backup_scp.web.options import WebOptions
from tests.web.conftest import stores_of_index

MANY = 1_000_000


class Endless:
    """An index with very many studies, that notes how many were asked for."""

    def __init__(self, breaks_at: int = MANY) -> None:
        self.given = 0
        self.is_open = False
        self._breaks_at = breaks_at

    def search(self, query: Query) -> Generator[Match, None, None]:
        row = dict.fromkeys((key.keyword for key in returned_keys(query)), "1")
        self.is_open = True
        try:
            for _ in range(MANY):
                if self.given == self._breaks_at:
                    raise IndexUnavailable("It is on holiday")
                self.given += 1
                yield dict(row)
        finally:
            self.is_open = False


def messages(index: Endless, query: bytes, most: int) -> Iterator[dict[str, Any]]:
    """Search, and yield up to so many of the messages that the server gets; then the caller is gone."""
    app = application(stores_of_index(index), WebOptions())
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == most:
            raise ConnectionResetError

    scope = {
        "type": "http", "method": "GET", "scheme": "http", "path": "/dicom-web/studies", "root_path": "",
        "headers": [(b"host", b"127.0.0.1")], "query_string": query, "client": ("127.0.0.1", 1),
        "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
    }  # fmt: skip
    try:
        asyncio.run(asyncio.wait_for(app(cast("Any", scope), receive, send), 100))
    except BaseException as error:  # noqa: BLE001 - whatever the server would see
        sent.append({"type": "raised", "error": error})
    yield from sent


def test_the_first_results_come_before_the_last_are_found():
    index = Endless()
    start, first, *_ = messages(index, b"", 3)
    assert start["status"] == 200
    assert b"content-length" not in dict(start["headers"])
    assert first["body"].startswith(b"[{")
    assert index.given < 1000
    assert not index.is_open


def test_a_piece_is_not_much_longer_than_another():
    pieces = [message["body"] for message in messages(Endless(), b"", 20) if "body" in message]
    assert max(map(len, pieces)) < 1 << 17


def test_an_offset_is_passed_without_keeping_it():
    index = Endless()
    start, *_ = messages(index, b"offset=5000", 3)
    assert start["status"] == 200
    assert 5000 < index.given < 6000


def test_an_index_that_fails_at_once_is_a_problem():
    start, body, *_ = messages(Endless(0), b"", 9)
    assert (start["status"], b"on holiday" in body["body"]) == (503, True)


@pytest.mark.parametrize("query", [b"", b"limit=100000"])
def test_an_index_that_fails_later_leaves_the_answer_incomplete(query):
    found = list(messages(Endless(50_000), query, 10_000))
    assert found[0]["status"] == (503 if query else 200)  # with a limit everything behind it is counted first
    if not query:
        assert all(message.get("more_body") for message in found[1:])  # no caller takes it for whole
