"""What every page has: who may see it, the headers, the words, and what becomes of a form or path that is not ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backup_scp.machine import clock
from backup_scp.services.parcels import ParcelKind
from backup_scp.services.restore_jobs import order
from backup_scp.web.options import WebOptions
from backup_scp.web.pages import page_texts
from backup_scp.web.pages.page_table import PAGES
from tests.samples import dx, encode
from tests.web.pages.conftest import ELSEWHERE, TOKEN

TEMPLATES = Path(page_texts.__file__).parent / "templates"
PATHS = sorted(
    {page.path for page in PAGES if page.right is not None and page.method == "GET" and "{" not in page.path}
)

FILES = {f"/study/{kind}" for kind in ParcelKind}
"""Addresses of files that are saved."""


@pytest.mark.parametrize("path", PATHS)
def test_from_elsewhere_nothing_is_shown_and_it_says_why(make_pages, path):
    answer = make_pages(address=ELSEWHERE).get(path)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "token_file" in answer.text
    assert "Authorization: Bearer" in answer.text
    assert "<nav" in answer.text
    assert 'href="/"' not in answer.text


def test_a_token_opens_it_from_elsewhere(make_pages):
    pages = make_pages(WebOptions(tokens=frozenset({TOKEN})), ELSEWHERE)
    assert pages.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert pages.get("/", headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401


def test_a_name_that_leads_to_this_computer_is_refused(pages):
    answer = pages.get("/", headers={"Host": "attacker.example"})
    assert answer.status_code == 403
    assert "by its IP address" in answer.text


def test_another_site_reads_nothing_even_one_that_may_use_dicomweb(make_pages):
    pages = make_pages(WebOptions(cors=("https://viewer.example",)))
    headers = {"Origin": "https://viewer.example"}
    assert "access-control-allow-origin" not in pages.get("/", headers=headers).headers
    assert "access-control-allow-origin" in pages.get("/dicom-web/studies", headers=headers).headers


@pytest.mark.parametrize(
    "path", [*sorted(set(PATHS) - {"/events", "/restore/events"}), "/nowhere", "/static/page.css/"]
)
def test_nothing_is_loaded_from_elsewhere_or_shown_in_a_frame(make_pages, path):
    answer = make_pages().get(path)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe-inline" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"  # with none, forms would have no Origin
    assert not re.findall(r'(?:src|href|action)="(?!/|#)', answer.text)
    assert not re.findall(r" style=| on[a-z]+=|<script>", answer.text)


class TestFolderOfAProxy:
    """``public_url`` has a folder, which the proxy takes away before it passes a request on."""

    @pytest.fixture
    def pages(self, make_pages):
        pages = make_pages(WebOptions(tokens=frozenset({TOKEN}), public_url="https://clinic.example/pacs/"))
        pages.headers["Authorization"] = f"Bearer {TOKEN}"
        return pages

    @pytest.mark.parametrize("path", sorted(set(PATHS) - {"/events", "/restore/events", "/metrics"} - FILES))
    def test_every_address_has_it(self, pages, stored, path):
        stored.put(encode(dx()))
        order(stored.index, "this node", "dx-room-1", [dx().StudyInstanceUID], clock.now())
        wanted = {"uid": dx().StudyInstanceUID, "study": dx().StudyInstanceUID, "place": "restore-0", "when": "unread"}
        found = re.findall(r'(?:href|src|action|data-events)="([^"]*)"', pages.get(path, params=wanted).text)
        assert len(found) > 5
        assert [address for address in found if not address.startswith(("/pacs/", "#"))] == []

    def test_a_redirect_and_a_cookie_have_it(self, pages, stored):
        token = re.search(r'name="token" value="([^"]+)"', pages.get("/studies?when=unread").text).group(1)  # type: ignore[union-attr]
        answer = pages.post("/studies/seen", data={"token": token}, headers={"Origin": "https://clinic.example"})
        assert answer.headers["location"] == "/pacs/studies?when=unread"
        assert "Path=/pacs/studies; " in answer.headers["set-cookie"]
        assert "Secure" in answer.headers["set-cookie"]
        stored.put(encode(dx()))
        form = {"token": token, "study": dx().StudyInstanceUID, "to": "dx-room-1"}
        assert pages.post("/restore", data=form).headers["location"] == "/pacs/restore/job?place=restore-0"


def test_what_is_not_there_is_a_page_and_below_dicom_web_a_problem(pages):
    assert pages.get("/nowhere").status_code == 404
    assert "There is nothing at this path" in pages.get("/nowhere").text
    assert pages.get("/dicom-web/nowhere").headers["content-type"] == "application/problem+json"
    assert pages.post("/").status_code == 405


@pytest.mark.parametrize("path", ["//evil.example", "//evil.example/", "/nowhere/", "/%5cevil.example", "/studies//"])
def test_no_path_leads_to_another_site(pages, path):
    answer = pages.get("http://127.0.0.1:8042" + path)
    assert answer.headers.get("location", "").partition("?")[0] in {"", "/"}


class TestStaticFiles:
    def test_they_have_their_digest_in_their_address(self, pages):
        address = re.search(r'href="(/static/page\.css\?[0-9a-f]+)"', pages.get("/").text).group(1)  # type: ignore[union-attr]
        answer = pages.get(address)
        assert answer.headers["cache-control"].endswith("immutable")
        assert pages.get("/static/page.css").headers["cache-control"] == "no-cache"
        tag = {"If-None-Match": answer.headers["etag"]}
        assert pages.get(address, headers=tag).status_code == 304

    def test_everybody_may_have_them(self, make_pages):
        assert make_pages(address=ELSEWHERE).get("/static/page.js").status_code == 200

    @pytest.mark.parametrize("name", ["..%2fpage_frame.py", "%2e%2e/page_frame.py", "page.html", "."])
    def test_nothing_else_is_sent(self, pages, name):
        assert pages.get(f"/static/{name}").status_code == 404


class TestWords:
    def test_every_word_in_the_templates_is_in_the_file(self):
        words = page_texts.texts_in("en")
        used = {name for file in TEMPLATES.glob("*.html") for name in re.findall(r'\bt\("([\w.]+)"', file.read_text())}
        whole = {name for name in used if not name.endswith(("_", "."))}
        assert len(whole) > 20
        assert {name for name in whole if name not in words} == set()

    @pytest.mark.parametrize(
        ("wanted", "language"),
        [("", "en"), ("xx", "en"), ("en-GB;q=0.1, xx", "en"), (";;q=,,en;q=0", "en"), ("*", "en")],
    )
    def test_an_unknown_language_is_english(self, wanted, language):
        assert page_texts.chosen(wanted) == language

    def test_the_page_says_its_language(self, pages):
        assert '<html lang="en">' in pages.get("/", headers={"Accept-Language": "en-GB"}).text
