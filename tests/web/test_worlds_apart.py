"""Whatever a caller of one clinic asks, the answers are, byte for byte, those of a node that has no other clinic.

Two nodes get each request: one has the images of both clinics, the other those of the caller's alone.  The requests
come from the tables of routes, with the UIDs of both clinics in each place: a route that is added is asked as well.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from backup_scp.machine import clock
from backup_scp.machine.disk_cache import DiskCache
from backup_scp.node.settings import load
from backup_scp.node.web_main import backup_state
from backup_scp.services import restore_jobs
from backup_scp.services.inventory_listing import uid_of
from backup_scp.services.permissions import CallerKind, Right
from backup_scp.web.app import application
from backup_scp.web.dicomweb.table import ROUTES
from backup_scp.web.options import BASE_PATH, WebOptions
from backup_scp.web.pages.page_sources import PageSources
from backup_scp.web.pages.page_table import PAGES
from tests.samples import ct_series, dx, encode, with_pixels
from tests.stored import stored_in
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


def world(stored, folder, settings: str) -> TestClient:
    file = folder / "settings.toml"
    file.write_text(settings)
    known = load(file, {"BACKUP_SCP_HOME": str(folder)})
    stores = stores_of(stored, DiskCache(folder / "cache", 1 << 24, 0))
    sources = PageSources(
        stores,
        lambda: backup_state(known, stored),
        stored.index,
        stored.index.copies.copies_of,
        known.remotes,
        "this node",
        folder / "receipts",
    )
    app = application(stores, OPTIONS, pages=sources)
    return TestClient(app, base_url=HOST, client=("192.0.2.1", 50000), follow_redirects=False)


@pytest.fixture
def worlds(tmp_path, monkeypatch) -> Iterator[tuple[TestClient, TestClient]]:
    """Yield the node of both clinics, and that of one."""
    monkeypatch.setattr("backup_scp.web.pages.form_guard.secrets", SimpleNamespace(token_bytes=bytes))
    with stored_in(tmp_path / "one") as stored:
        fill_north(stored)
    shutil.copytree(tmp_path / "one", tmp_path / "both", dirs_exist_ok=True)
    monkeypatch.setattr(clock, "now", lambda: NOW)
    with stored_in(tmp_path / "both") as both, stored_in(tmp_path / "one") as one:
        fill_south(both)
        restore_jobs.order(both.index, "this node", "south-console", [OF_SOUTH.StudyInstanceUID], NOW)
        yield (
            world(both, tmp_path / "both", SETTINGS + OTHER_REMOTE),
            world(one, tmp_path / "one", SETTINGS),
        )


@pytest.fixture(autouse=True)
def folder(tmp_path):
    for name in ("one", "both"):
        (tmp_path / name).mkdir(exist_ok=True)


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
    }


def paths(path: str) -> Iterator[str]:
    """Yield a path with the UIDs of each image, and with those of two images mixed."""
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    mixed = itertools.product((OF_NORTH, OF_SOUTH), repeat=min(len(names), 3))
    whole = itertools.repeat(OF_BOTH, 3), itertools.repeat(NOWHERE, 3)
    for each in (*mixed, *whole):
        values = uids_of(OF_SOUTH) | {name: uids_of(ds)[name] for name, ds in zip(names, each, strict=False)}
        yield path.replace(":path", "").format_map(values)


QUERIES = [
    {},
    {"limit": "1"},
    {"limit": "1", "offset": "1"},
    {"includefield": "all"},
    *({"PatientID": "P1"}, {"PatientName": "SOUTH*"}, {"PatientName": "*TH*", "fuzzymatching": "true"}),
    *({"StudyInstanceUID": ds.StudyInstanceUID} for ds in (OF_SOUTH, OF_BOTH)),
    *({"SOPInstanceUID": ds.SOPInstanceUID} for ds in (OF_SOUTH, OF_BOTH)),
    {"AccessionNumber": "S1"},
    *({"SOPInstanceUID": uid_of(IDENTITY + site, NOW - timedelta(hours=1))} for site in ("", "north", "south")),
]
ACCEPTED = ("*/*", "application/dicom+json", 'multipart/related; type="application/dicom"', "image/jpeg",
            'multipart/related; type="image/jpeg"')  # fmt: skip


def ask(client: TestClient, token: str, method: str, url: str, accept: str = "*/*", **more: Any):
    """Return what a caller sees of an answer: all but the time, and the separator of its parts."""
    headers = {"authorization": f"Bearer {token}", "accept": accept} | more.pop("headers", {})
    answer = client.request(method, url, headers=headers, **more)
    content_type = answer.headers.get("content-type", "")
    boundary = content_type.partition("boundary=")[2].strip('"')
    seen = {name: text for name, text in answer.headers.items() if name != "date"}
    body = answer.content.replace(boundary.encode(), b"-") if boundary else answer.content
    seen["content-type"] = content_type.replace(boundary, "-") if boundary else content_type
    return answer.status_code, seen, body


def searches() -> list[str]:
    return [route.path for route in ROUTES if route.method == "GET" and route.right is Right.FIND]


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES if route.method == "GET"}))
@pytest.mark.parametrize("accept", ACCEPTED)
def test_each_get_of_dicomweb(worlds, path, accept):
    both, one = worlds
    for each in paths(path):
        assert ask(both, NORTH, "GET", BASE_PATH + each, accept) == ask(one, NORTH, "GET", BASE_PATH + each, accept)


@pytest.mark.parametrize("path", sorted(searches()))
def test_each_search_of_dicomweb(worlds, path):
    both, one = worlds
    for each, query in itertools.product(paths(path), QUERIES):
        answers = [ask(world, NORTH, "GET", BASE_PATH + each, params=query) for world in worlds]
        assert answers[0] == answers[1]
    assert (both, one) == worlds


def test_wado_uri(worlds):
    for ds in (OF_NORTH, OF_SOUTH, OF_BOTH, NOWHERE):
        query = {"requestType": "WADO", "studyUID": ds.StudyInstanceUID, "seriesUID": ds.SeriesInstanceUID,
                 "objectUID": ds.SOPInstanceUID}  # fmt: skip
        both, one = (ask(world, NORTH, "GET", f"{BASE_PATH}/wado", params=query) for world in worlds)
        assert both == one


@pytest.mark.parametrize("path", sorted({page.path for page in PAGES if page.method == "GET"}))
def test_each_page(worlds, path):
    if path == "/restore/events":  # it has no end; ``/restore/job`` finds by the same name
        return
    uids = [ds.StudyInstanceUID for ds in (OF_NORTH, OF_SOUTH, OF_BOTH, NOWHERE)]
    queries: list[dict[str, str]] = [{}, {"q": "SOUTH"}, {"q": "P1"}, {"part": "list"}, {"place": "restore-0"}]
    queries += [{"uid": uid, "study": uid} for uid in uids]
    for url, query in itertools.product(paths(path), queries):
        both, one = (ask(world, NORTH, "GET", url, params=query) for world in worlds)
        assert both == one


def test_a_clinic_cannot_see_the_state_of_the_node(worlds):
    for path, status in (("/", 303), ("/events", 403), ("/metrics", 403)):
        assert [ask(world, NORTH, "GET", path)[0] for world in worlds] == [status, status]
    assert ask(worlds[0], ALL, "GET", "/metrics")[0] == 200


def test_an_order_that_names_a_study_of_another_clinic(worlds):
    for to, status in (("north-console", 303), ("south-console", 400), ("nowhere", 400)):
        form = {"token": TOKEN, "study": OF_SOUTH.StudyInstanceUID, "to": to}
        answers = [ask(world, NORTH, "POST", "/restore", data=form) for world in worlds]
        assert [answer[0] for answer in answers] == [status, status]


def test_a_transaction_of_another_clinic(worlds):
    item = {
        "00081150": {"vr": "UI", "Value": [OF_SOUTH.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [OF_SOUTH.SOPInstanceUID]},
    }
    reference = {"00081199": {"vr": "SQ", "Value": [item]}}
    url, sent = f"{BASE_PATH}/commitment-requests/1.2.3.4", {"content-type": "application/dicom+json"}
    assert ask(worlds[0], SOUTH, "POST", url, json=reference, headers=sent)[0] == 202
    more: Any
    for method, more in (("GET", {}), ("POST", {"json": reference, "headers": sent}), ("GET", {})):
        both, one = (ask(world, NORTH, method, url, **more) for world in worlds)
        assert both == one


def test_what_comes_with_a_token_belongs_to_its_clinic(worlds):
    both, _ = worlds
    sample = encode(dx(study="new"))
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + sample.file_bytes() + b"\r\n--b--\r\n"
    sent = {"content-type": 'multipart/related; type="application/dicom"; boundary=b'}
    assert ask(both, NORTH, "POST", f"{BASE_PATH}/studies", content=body, headers=sent)[0] == 200
    url = f"{BASE_PATH}/studies/{sample.dataset().StudyInstanceUID}/metadata"
    assert [ask(both, token, "GET", url)[0] for token in (NORTH, SOUTH, ALL)] == [200, 404, 200]


def test_the_requests_mean_something(worlds):
    """Who sees all gets other answers: so a route that forgets the clinic fails the tests above."""
    both, one = worlds
    silent = []
    for path in sorted({route.path for route in ROUTES if route.method == "GET"} - {"/wado"}):
        if "{transaction}" in path or "{inventory}" in path or path == "/inventories" or "bulkdata" in path:
            continue
        url = BASE_PATH + path.format_map(uids_of(OF_SOUTH))
        if all(ask(both, ALL, "GET", url, accept) == ask(one, ALL, "GET", url, accept) for accept in ACCEPTED):
            silent.append(path)
    assert silent == []
