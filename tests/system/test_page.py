"""The page in Debian's Chromium, beside a node that runs: what people do with it, and what it looks like."""

from __future__ import annotations

import contextlib
import re
import shutil
from datetime import timedelta

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from backup_scp.machine import clock
from tests.axe import FILE as AXE
from tests.processes import peer_missing, wait_until
from tests.samples import ct_series, dx, encode, replace, uid
from tests.stored import stored_in
from tests.system.node import Remote
from tests.system.peers import dcmtk
from tests.system.viewer import SCREENSHOTS
from tests.system.web import web_address, web_node

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

TODAY = clock.now().astimezone()
NAMES = ["Müller^Jörg=山田^太郎", "García^José", '<b onclick="x">Bold</b>^&amp;', "Smith^Anna"]
TIMEOUT_MS = 40_000


def sample(number: int, **elements: object):
    """Return an image that a thumbnail shows well."""
    y, x = np.mgrid[0:300, 0:250]
    pixels = (x * 1000 // 250 + y * 1000 // 300).astype("<u2")
    pixels[(x - 125) ** 2 + (y - 150) ** 2 < (60 + 9 * number) ** 2] = 3500
    facts = {
        "PatientName": NAMES[number % len(NAMES)],
        "PatientID": f"P{number:04}",
        "AccessionNumber": f"A{number:03}",
        "StudyDate": f"{TODAY:%Y%m%d}",
        "StudyTime": "000100",
        "SpecificCharacterSet": "ISO_IR 192",
        "StudyDescription": "Chest PA",
    }
    ds = dx(study=str(number), series=str(number), number=number, **facts | elements)
    replace(ds, Rows=300, Columns=250, PixelData=pixels.tobytes(), WindowCenter="1800", WindowWidth="2600")
    return encode(ds)


@pytest.fixture
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        peer_missing("chromium")
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Return ``open_page(node, path, **options)``; at the end no page may have had an error."""
    errors: list[str] = []

    def open_page(node, path: str = "/", **options) -> Page:
        options = {"viewport": {"width": 1200, "height": 850}, "locale": "en-US"} | options
        page = browser.new_page(**options)
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(origin(node) + path)
        return page

    open_page.errors = errors  # type: ignore[attr-defined]
    yield open_page
    assert [error for error in errors if "net::ERR" not in error and "Failed to load resource" not in error] == []


def origin(node) -> str:
    return web_address(node).removesuffix("/dicom-web")


def keep(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"page {name}.png", full_page=True)


def serious(page: Page) -> list[str]:
    """Return what axe-core finds serious or worse."""
    if not AXE.is_file():
        peer_missing("axe-core", "viewer")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then(found => found.violations)")
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in {"serious", "critical"}]


@pytest.fixture
def past(tmp_path):
    """Fill the node's folders with weeks of two consoles: one of them has been silent for two days."""

    def past(home) -> None:
        from tests.stored import arrival

        home.mkdir()
        with stored_in(home) as stored:
            for back in range(1, 43):
                day = TODAY - timedelta(days=back)
                for console, number in (("dx-room-1", 2), ("ct", 0 if back < 3 else 1)):
                    for image in range(number):
                        name = f"{console} {back} {image}"
                        ds = dx(study=name, series=name, StudyDate=f"{day:%Y%m%d}", PatientName="Old^Patient")
                        shift = int((day - arrival().received_at).total_seconds())
                        stored.put(encode(replace(ds, SOPInstanceUID=uid(name))), shift, remote=console)

    return past


def test_the_sign_says_all_is_well_renews_itself_and_says_when_the_node_is_gone(make_node, open_page, past):
    node = web_node(make_node)
    past(node.home)
    node.start()
    page = open_page(node)
    expect(page.locator(".sign .word").nth(1)).to_have_text("All is well")
    expect(page.locator("figcaption", has_text="dx-room-1")).to_be_visible()
    assert page.locator(".calendar .silent").count() > 0
    keep(page, "state")
    assert serious(page) == []
    node.send([sample(1)])
    expect(page.locator("dd").first).to_have_text("125")  # without loading the page again
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    keep(page, "state on a phone, dark")
    assert serious(page) == []
    node.stop()
    expect(page.locator("#lost")).to_be_visible()
    keep(page, "state lost")


def test_it_says_what_to_do_when_a_console_is_refused(make_node, open_page):
    """A stranger makes it amber, a console of the settings red."""
    node = web_node(make_node, remotes=[Remote("dr", "NEW_DR", 104, host="192.0.2.9")])
    node.start()
    page = open_page(node)
    expect(page.locator("#state .sign.well")).to_be_visible()
    dcmtk("echoscu", "-aet", "SCANNER", "-aec", "WRONG", node.host, str(node.port), exit_code=None)
    expect(page.locator("#state .sign.soon")).to_contain_text("SCANNER")  # without loading the page again
    keep(page, "a stranger is refused")
    dcmtk("echoscu", "-aet", "NEW_DR", "-aec", "WRONG", node.host, str(node.port), exit_code=None)
    expect(page.locator("#state .sign.now")).to_contain_text("NEW_DR")
    expect(page.locator("#state .sign pre")).to_contain_text("BACKUP_SCP")
    assert page.title() == "Act now"
    keep(page, "act now")
    assert serious(page) == []


def test_a_bar_shows_how_far_a_copy_is(make_node, open_page, tmp_path):
    drive = tmp_path / "drive"
    drive.mkdir()
    slow: dict[str, object] = {"name": "drive", "url": f"file://{drive}", "mb_per_s": 0.05}
    node = web_node(make_node, copies=[slow])
    node.start()
    node.send([sample(number) for number in range(40)])
    node.cli("copies", "init", "drive", "--same-disk")
    page = open_page(node)
    bar = page.locator("progress.work")
    expect(bar).to_have_attribute("max", "40", timeout=120_000)
    expect(page.get_by_text("0 of 40 images, 0 %")).to_be_visible()
    keep(page, "a copy is filled")
    assert serious(page) == []


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_study_is_found_and_looked_at(make_node, open_page, scripts):
    node = web_node(make_node)
    node.start()
    slices = [encode(ds) for ds in ct_series(3, PatientName="Ct^Patient", StudyDescription="Head")]
    node.send([*(sample(number) for number in range(8)), *slices])
    page = open_page(node, "/studies", java_script_enabled=scripts)
    rows = page.locator("#results li")
    expect(rows).to_have_count(9)
    expect(rows.filter(has_text="<b onclick")).to_have_count(2)  # as text
    if scripts:
        page.keyboard.type("jor mül")
    else:
        page.fill("#q", "jor mül")
        page.keyboard.press("Enter")
    expect(rows).to_have_count(2)
    assert re.search(r"q=jor", page.url)
    keep(page, f"search {'with' if scripts else 'without'} scripts")
    if scripts:
        picture = rows.first.locator("img")
        wait_until(lambda: picture.evaluate("image => image.naturalWidth") > 0, what="a thumbnail")
        assert serious(page) == []
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
    else:
        rows.first.locator("a").click()
    expect(page.locator("h1")).to_have_text("Müller, Jörg · 山田, 太郎")
    expect(page.get_by_text("RAW_SENDER")).to_be_visible()
    keep(page, "study")
    if scripts:
        assert serious(page) == []


def test_studies_are_sent_back_and_the_receipt_is_read(make_node, open_page, start_storescp):
    """The console is off at first, the page is closed, and the node is restarted: it goes on."""
    sink = start_storescp()
    sink.stop()
    node = web_node(make_node, remotes=[sink.remote])
    node.start()
    node.send([sample(number) for number in range(4)])
    page = open_page(node, "/studies")
    for number in (0, 2):
        page.locator("#results input[type=checkbox]").nth(number).check()
    page.get_by_role("button", name="Send the picked").click()
    expect(page.locator("input[name=study]:checked")).to_have_count(2)
    keep(page, "restore, new")
    assert serious(page) == []
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("It waits")).to_be_visible()
    keep(page, "restore, waits")
    address = page.url.partition("/restore")[2]
    page.close()
    node.restart()
    sink.start()
    page = open_page(node, f"/restore{address}")
    expect(page.get_by_text("2 images are on sink")).to_be_visible(timeout=120_000)
    keep(page, "restore, complete")
    assert serious(page) == []
    with page.expect_download() as download:
        page.get_by_text("Receipt").click()
    assert download.value.path().stat().st_size > 200
    assert len(sink.files()) == 2
    page.goto(origin(node) + "/restore")
    expect(page.locator("tbody tr")).to_contain_text("complete")
    keep(page, "restores")
    assert serious(page) == []


def test_a_page_of_another_site_can_neither_read_nor_order(make_node, open_page, storescp):
    node = web_node(make_node, remotes=[storescp.remote])
    node.start()
    node.send([sample(1)])
    page = open_page(node, "/nowhere")
    assert "404" in page.evaluate("fetch('/nowhere').then(answer => String(answer.status))")
    page.set_content(
        f'<form action="{origin(node)}/restore" method="post"><input name="study" value="1"><input name="to" '
        'value="sink"><button>x</button></form>'
    )
    page.evaluate("document.querySelector('form').submit()")
    with contextlib.suppress(Exception):
        page.wait_for_load_state()
    assert storescp.files() == []
    assert node.json("status", exit_code=None)["tasks"].get("restore-0") is None


def test_a_study_is_saved_as_files_pictures_and_document(make_node, open_page):
    node = web_node(make_node)
    node.start()
    node.send([sample(0)])
    page = open_page(node, f"/study?uid={sample(0).dataset().StudyInstanceUID}")
    page.get_by_text("Save", exact=True).click()
    keep(page, "study, save")
    assert serious(page) == []
    for kind, name, magic in (
        ("DICOM", "study.zip", b"PK"),
        ("JPEG", "pictures.zip", b"PK"),
        ("PDF", "pictures.pdf", b"%P"),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=kind).click()
        assert download.value.suggested_filename == name
        assert download.value.path().read_bytes()[:2] == magic
