"""Whatever a caller of one clinic asks, the answers are, byte for byte, those of a node that has no other clinic.

Two nodes get each request: one has the images of both clinics, the other those of the caller's alone.  The requests
come from the tables of routes, with the UIDs of both clinics in each place: a route that is added is asked as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from backup_scp.services.inventory_listing import uid_of
from backup_scp.services.permissions import Right
from backup_scp.web.dicomweb.table import ROUTES
from backup_scp.web.options import BASE_PATH
from backup_scp.web.pages.page_table import PAGES
from tests.samples import dx, encode
from tests.web.clinic_worlds import (
    ACCEPTED,
    ALL,
    IDENTITY,
    NORTH,
    NOW,
    NOWHERE,
    OF_BOTH,
    OF_NORTH,
    OF_SOUTH,
    SOUTH,
    TOKEN,
    ask,
    paths,
    two_worlds,
    uids_of,
)


@pytest.fixture
def worlds(tmp_path, monkeypatch) -> Iterator[tuple[TestClient, TestClient]]:
    """Yield the node of both clinics, and that of one."""
    with two_worlds(tmp_path, monkeypatch) as (both, one):
        yield both.client(), one.client()


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
