"""The viewer's files: found, cached, compressed, guarded; and what is said when they were not built."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from backup_scp.errors import IndexUnavailable
from backup_scp.web.access_gate import AccessGate
from backup_scp.web.callers import WebAccess
from backup_scp.web.options import WebOptions
from backup_scp.web.problems import problem_of, response_of
from backup_scp.web.viewer.viewer_files import BUILT, VIEWER_PATH, viewer_paths
from tests.processes import peer_missing
from tests.samples import dx, encode, presentation_state, replace

SCRIPT = b"export const answer = 42\n" * 9
HOST = "http://127.0.0.1:8042"
STUDY = dx().StudyInstanceUID
MOST_SCRIPT_BYTES = 1_500_000


@pytest.fixture
def built(tmp_path):
    assets = tmp_path / "built" / "assets"
    assets.mkdir(parents=True)
    (tmp_path / "built" / "index.html").write_text("<!doctype html><title>Viewer</title><!--first image-->")
    (assets / "page-AbC1.js").write_bytes(SCRIPT)
    (assets / "page-AbC1.js.gz").write_bytes(gzip.compress(SCRIPT))
    (assets / "codec-9.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret.js").write_text("not of the viewer")
    return tmp_path / "built"


class NoIndex:
    """An index that does not answer."""

    def seen_by(self, _scope):
        return self

    def retrieve(self, _query):
        raise IndexUnavailable("PostgreSQL does not answer")


def client_of(folder, address="127.0.0.1", index=None, options=None):
    asked: Any = index or NoIndex()
    routes = viewer_paths(lambda _, error: response_of(problem_of(error)), asked, folder)
    app = AccessGate(
        Starlette(routes=routes), WebAccess(options or WebOptions()), lambda _, problem: response_of(problem)
    )
    return TestClient(app, base_url=HOST, client=(address, 50000), follow_redirects=False)


def test_the_page_may_talk_to_the_node_alone(built):
    answer = client_of(built).get(VIEWER_PATH + "?StudyInstanceUIDs=1.2.3")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["style-src"] == policy["connect-src"] == policy["worker-src"] == "'self'"
    assert "no-cache" in answer.headers["cache-control"]


def test_a_script_is_kept_by_the_browser_and_is_sent_compressed(built):
    client = client_of(built)

    answer = client.get(VIEWER_PATH + "assets/page-AbC1.js", headers={"accept-encoding": "gzip, br"})

    assert answer.content == SCRIPT
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    plain = client.get(VIEWER_PATH + "assets/page-AbC1.js", headers={"accept-encoding": "identity"})
    assert plain.content == SCRIPT
    assert "content-encoding" not in plain.headers
    assert plain.headers["etag"] != answer.headers["etag"]
    unchanged = client.get(
        VIEWER_PATH + "assets/page-AbC1.js",
        headers={"if-none-match": plain.headers["etag"], "accept-encoding": "identity"},
    )
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_webassembly_has_its_type(built):
    assert client_of(built).get(VIEWER_PATH + "assets/codec-9.wasm").headers["content-type"] == "application/wasm"


@pytest.mark.parametrize(
    "name",
    ["../secret.js", "assets/../../secret.js", "assets/%2e%2e/%2e%2e/secret.js", "source.sha256", "assets/none.js"],
)
def test_nothing_else_is_served(built, name):
    (built / "source.sha256").write_text("00")
    answer = client_of(built).get(VIEWER_PATH + name)
    assert answer.status_code == 404
    assert b"not of the viewer" not in answer.content


def test_without_its_slash_the_page_is_found(built):
    answer = client_of(built).get("/viewer?StudyInstanceUIDs=1.2")
    assert (answer.status_code, answer.headers["location"]) == (308, "viewer/?StudyInstanceUIDs=1.2")


def test_from_elsewhere_nothing_is_shown(built):
    for name in ("", "assets/page-AbC1.js"):
        assert client_of(built, "192.0.2.7").get(VIEWER_PATH + name).status_code == 401


def test_a_page_that_was_not_built_says_how_to_build_it(tmp_path):
    answer = client_of(tmp_path / "missing").get(VIEWER_PATH)
    assert answer.status_code == 503
    assert "make viewer-page" in answer.json()["detail"]


def test_the_page_has_the_first_image_already(built, stored):
    first, second = (dx(series=series, number=7 - int(series), SeriesNumber=series) for series in "23")
    state = presentation_state(first, series="1", SeriesNumber="1", StudyInstanceUID=STUDY)
    for each in (second, state, first):
        stored.put(encode(each))
    client = client_of(built, index=stored.index)

    page = client.get(VIEWER_PATH, params={"StudyInstanceUIDs": STUDY})

    instance = f"studies/{STUDY}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}"
    assert f'src="../dicom-web/{instance}/thumbnail"' in page.text
    assert f'data-instance="{instance}"' in page.text
    assert second.SOPInstanceUID not in page.text
    again = client.get(
        VIEWER_PATH, params={"StudyInstanceUIDs": STUDY}, headers={"if-none-match": page.headers["etag"]}
    )
    assert again.status_code == 304


@pytest.mark.parametrize("studies", ["", "1.2.3", f"{STUDY},1.2.3", '"><script>', STUDY + "\\*"])
def test_without_one_known_study_the_page_names_no_image(built, stored, studies):
    stored.put(encode(dx()))
    answer = client_of(built, index=stored.index).get(VIEWER_PATH, params={"StudyInstanceUIDs": studies})
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert "<script" not in answer.text


def test_an_image_with_an_odd_uid_is_not_named(built, stored):
    stored.put(encode(replace(dx(), SeriesInstanceUID='1"2')))
    assert "<img" not in client_of(built, index=stored.index).get(VIEWER_PATH, params={"StudyInstanceUIDs": STUDY}).text


def test_an_image_of_another_clinic_is_not_named(built, stored):
    stored.put(encode(dx()))
    options = WebOptions(tokens=frozenset({"south's", "all's"}), token_sites={"south's": ("south",)})
    client = client_of(built, index=stored.index, options=options)
    for token, is_named in (("south's", False), ("all's", True)):
        headers = {"authorization": f"Bearer {token}"}
        answer = client.get(VIEWER_PATH, params={"StudyInstanceUIDs": STUDY}, headers=headers)
        assert (answer.status_code, "<img" in answer.text) == (200, is_named)


def test_the_page_comes_when_the_index_does_not_answer(built):
    answer = client_of(built).get(VIEWER_PATH, params={"StudyInstanceUIDs": STUDY})
    assert (answer.status_code, "<img" in answer.text) == (200, False)


def test_scripts_stay_small():
    if not (BUILT / "index.html").is_file():
        peer_missing("the viewer's page", "viewer-page")
    sizes = [file.stat().st_size for file in (BUILT / "assets").glob("*.js.gz")]
    assert sizes
    assert sum(sizes) < MOST_SCRIPT_BYTES


def test_the_application_serves_it(web):
    web.base_url = HOST
    assert web.get(VIEWER_PATH).status_code in {200, 503}
