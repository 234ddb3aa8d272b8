"""DICOMweb and the page behind nginx, with the settings of conf/: TLS, a name and a folder of its own."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from backup_scp.machine import clock
from backup_scp.web.viewer.viewer_files import BUILT
from benchmarks.certificates import Certificates, issue
from tests.processes import LOOPBACK, free_port, peer_missing
from tests.samples import ct_series, data_set_of, dx, encode, uid
from tests.system.contents import damage, private_information, stored_file, visible
from tests.system.node import Node
from tests.system.proxies import Proxy
from tests.system.viewer import SCREENSHOTS
from tests.system.web import web_address, web_node
from tests.web.stow.bodies import CONTENT_TYPE, body

TOKEN = "0123456789abcdef0123456789abcdef"
CACHING = """
    proxy_cache_path {folder} keys_zone=all:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:8042;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_cache all;
            proxy_cache_valid any 1h;
        }}
    }}
"""
"""A proxy that keeps whatever it may, for everybody."""

SIMPLEST = "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:8042/; }} }}"


@pytest.fixture
def proxy(tmp_path, port, certificates, processes) -> Proxy:
    folder = tmp_path / "proxy"
    folder.mkdir()
    return Proxy(folder, port, certificates, processes)


@pytest.fixture
def certificates(tmp_path) -> Certificates:
    return issue(tmp_path / "certificates")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def node(make_node, port) -> Node:
    web = {"token_file": "tokens", "public_url": f"https://{LOOPBACK}:{port}/backup"}
    node = web_node(make_node, web)
    node.home.mkdir(parents=True)
    (node.home / "tokens").write_text(TOKEN)
    node.start()
    return node


@pytest.fixture
def caller(node, port, certificates, proxy) -> Iterator[httpx2.Client]:
    proxy.serve_nginx(node, below="/backup/")
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.check_hostname = False
    headers = {"authorization": f"Bearer {TOKEN}"}
    base = f"https://{LOOPBACK}:{port}/backup/dicom-web/"
    with httpx2.Client(base_url=base, headers=headers, verify=context, timeout=60) as client:
        yield client


def store(client: httpx2.Client, *samples) -> httpx2.Response:
    content = body(*(sample.file_bytes() for sample in samples))
    return client.post("studies", content=content, headers={"content-type": CONTENT_TYPE})


def test_the_addresses_in_answers_lead_through_the_proxy(caller, node, port):
    sample = encode(dx())
    stored = store(caller, sample)
    assert stored.status_code == 200
    (reference,) = stored.json()["00081199"]["Value"]
    url = reference["00081190"]["Value"][0]
    assert url.startswith(f"https://{LOOPBACK}:{port}/backup/dicom-web/studies/")
    accept = {"accept": "application/dicom; transfer-syntax=*"}
    assert data_set_of(caller.get(url, headers=accept).content) == sample.data_set
    (metadata,) = caller.get(f"{url}/metadata").json()
    pixels = caller.get(metadata["7FE00010"]["BulkDataURI"], headers={"accept": "application/octet-stream"})
    assert pixels.content == sample.dataset().PixelData

    assert private_information(stored_file(node, sample))["address"] == LOOPBACK
    assert httpx2.get(f"{web_address(node)}/studies", timeout=60).status_code == 401, "on this computer as well"
    del caller.headers["authorization"]
    assert caller.get("studies").status_code == 401


@pytest.fixture
def page(node, port, proxy) -> Iterator[Page]:
    """Yield a page of a browser that has the token, in the folder of the proxy; no request may leave that folder."""
    chromium = shutil.which("chromium")
    if chromium is None:
        peer_missing("chromium")
    proxy.serve_nginx(node, below="/backup/")
    asked: list[str] = []
    failed: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--disable-gpu"])
        page = browser.new_page(
            ignore_https_errors=True,
            extra_http_headers={"Authorization": f"Bearer {TOKEN}"},
            viewport={"width": 1200, "height": 850},
        )
        page.set_default_timeout(40_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        page.goto(f"https://{LOOPBACK}:{port}/backup/")
        yield page
        browser.close()
    ours = f"https://{LOOPBACK}:{port}/backup/"
    assert [url for url in asked if not url.startswith((ours, "blob:", "data:"))] == []
    assert failed == []


def test_the_pages_stay_in_the_folder(page, node):
    """A person goes from the sign to a study, to the viewer, and marks all as seen."""
    expect(page.locator("#state .sign .word")).to_be_visible()
    sample = encode(dx(StudyDate=f"{clock.now().astimezone():%Y%m%d}", PatientName="Behind^Proxy"))
    node.send([sample])
    expect(page.locator("dt:text-is('Images') + dd")).to_have_text("1", timeout=40_000)  # by server-sent events
    page.get_by_role("link", name="Search").click()
    page.keyboard.type("behind")
    rows = page.locator("#results li")
    expect(rows).to_have_count(1, timeout=40_000)
    rows.first.locator("a").click()
    expect(page.locator("h1")).to_have_text("Behind, Proxy", timeout=40_000)
    page.screenshot(path=SCREENSHOTS / "page behind nginx.png", full_page=True)
    page.get_by_role("link", name="Search").click()
    page.locator("label", has_text="New").click()
    page.get_by_role("button", name="I have seen all").click()
    expect(page.get_by_text("What came since you had seen all")).to_be_visible(timeout=40_000)
    page.get_by_role("link", name="Send back").click()
    expect(page.locator("h1")).to_have_text("Send back", timeout=40_000)


def test_the_viewer_stays_in_the_folder(page, node, port):
    if not (BUILT / "index.html").is_file():
        peer_missing("the viewer's page", "viewer-page")
    sample = encode(dx(PatientName="Behind^Proxy"))
    node.send([sample])
    page.goto(f"https://{LOOPBACK}:{port}/backup/study?uid={sample.dataset().StudyInstanceUID}")
    page.get_by_role("link", name="View the images").click()
    page.locator(".pane.painted").first.wait_for()


def test_an_answer_that_breaks_off_arrives_broken(caller, node):
    samples = [encode(ds) for ds in ct_series(40, Rows=256, Columns=256, PixelData=bytes(131072))]
    assert store(caller, *samples).status_code == 200
    assert len(visible(node)) == len(samples)
    damage(stored_file(node, samples[-1]), "flip")
    accept = {"accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    with pytest.raises(httpx2.RemoteProtocolError):
        caller.get(f"studies/{uid('1')}", headers=accept)


def test_a_proxy_without_settings_opens_nothing(make_node, port, proxy):
    node = web_node(make_node)
    node.start()
    proxy.serve_nginx(node, SIMPLEST.format(port=port))
    assert httpx2.get(f"{web_address(node)}/studies", timeout=60).status_code == 204
    assert httpx2.get(f"http://{LOOPBACK}:{port}/dicom-web/studies", timeout=60).status_code == 401


def test_a_proxy_that_keeps_answers_gives_nobody_those_of_another(make_node, port, proxy):
    node = web_node(make_node, {"token_file": "tokens"})
    node.home.mkdir(parents=True)
    (node.home / "tokens").write_text(TOKEN)
    node.start()
    sample = encode(dx())
    node.send([sample])
    proxy.serve_nginx(node, CACHING.format(folder=proxy.folder / "cache", port=port))
    study = f"http://{LOOPBACK}:{port}/dicom-web/studies/{sample.dataset().StudyInstanceUID}"
    known = {"authorization": f"Bearer {TOKEN}"}
    for url in (f"{study}/metadata", f"{study}/thumbnail", f"{study}/instances", f"http://{LOOPBACK}:{port}/studies"):
        assert httpx2.get(url, headers=known, timeout=60).status_code == 200
        assert httpx2.get(url, timeout=60).status_code in {303, 401}, url
