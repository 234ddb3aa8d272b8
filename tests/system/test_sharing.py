"""A study shared by a link: made at a desk, opened on two phones, over the node's own HTTPS."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from benchmarks.certificates import issue
from tests.processes import LOOPBACK, free_port
from tests.samples import uid
from tests.stored import stored_in
from tests.system.node import Node
from tests.system.test_page import browser, keep, sample, serious  # noqa: F401 - fixture
from tests.system.test_users import PASSWORD, choose
from tests.system.web import web_node

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}
STUDY = uid("1")


@pytest.fixture
def node(make_node, tmp_path) -> Node:
    """A node that others reach by HTTPS, with studies of two patients."""
    port, certificates = free_port(), issue(tmp_path / "certificates")
    web = {
        "port": port,
        "certificate": str(certificates.certificate),
        "key": str(certificates.key),
        "public_url": f"https://{LOOPBACK}:{port}",
    }
    node = web_node(make_node, web)
    node.home.mkdir(exist_ok=True)
    with stored_in(node.home) as stored:
        for number in (1, 2):
            stored.put(sample(number))
    node.start()
    return node


@dataclass
class Shared:
    """A link as its maker hands it over."""

    link: str
    pin: str


class Desk:
    """The browser of somebody who may share."""

    def __init__(self, node: Node, browser: Browser) -> None:  # noqa: F811
        self.node = node
        self.page = context_of(browser).new_page()

    def log_in(self) -> None:
        added = self.node.cli("users", "add", "Maria", "--role", "share").stdout
        choose(self.page, re.findall(r"https://\S+/link\?token=\S+", added)[0], PASSWORD)

    def open(self, path: str) -> None:
        self.page.goto(re.sub("(https://[^/]+).*", r"\1", self.page.url) + path)

    def share(self, whom: str, language: str = "Deutsch") -> Shared:
        self.open(f"/study?uid={STUDY}")
        self.page.get_by_role("link", name="Share").click()
        self.page.get_by_label("For whom").fill(whom)
        self.page.get_by_label("Language of the slip").select_option(label=language)
        assert serious(self.page) == []
        self.page.get_by_role("button", name="Make the link").click()
        return Shared(self.page.locator("#link").inner_text(), self.page.locator("#pin").inner_text())


@pytest.fixture
def desk(node, browser) -> Desk:  # noqa: F811
    desk = Desk(node, browser)
    desk.log_in()
    return desk


def context_of(browser: Browser, locale: str = "en-US", **options: Any) -> BrowserContext:  # noqa: F811
    context = browser.new_context(ignore_https_errors=True, locale=locale, **options)
    context.set_default_timeout(40_000)
    return context


@contextlib.contextmanager
def noting(page: Page) -> Iterator[list]:
    """Note all requests of a page."""
    requests: list = []
    page.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - playwright marks it
    yield requests


def test_a_patient_opens_it_on_a_phone(desk, browser, node):  # noqa: F811
    shared = desk.share("Frau García")
    keep(desk.page, "share made")
    assert serious(desk.page) == []
    desk.page.emulate_media(media="print")
    keep(desk.page, "share slip")
    for hidden in ("#pin", "header.top", "footer"):
        expect(desk.page.locator(hidden)).to_be_hidden()
    expect(desk.page.locator(".slip")).to_contain_text(shared.link)
    context = context_of(browser, locale="de-DE", **PHONE)
    phone = context.new_page()
    with noting(phone) as requests:
        phone.goto(shared.link)
        expect(phone.get_by_role("heading", name="PIN eingeben")).to_be_visible()
        assert "García" not in phone.content()
        keep(phone, "share pin de")
        assert serious(phone) == []
        phone.get_by_label("PIN").fill("000 000" if shared.pin != "000 000" else "111 111")
        phone.get_by_role("button", name="Bilder zeigen").click()
        expect(phone.get_by_role("alert")).to_contain_text("Bitte prüfen")
        assert serious(phone) == []
        phone.get_by_label("PIN").fill(shared.pin)
        phone.get_by_role("button", name="Bilder zeigen").click()
        expect(phone.get_by_role("heading", name="García, José")).to_be_visible()
        assert phone.title() == "Medizinische Bilder"
        look_at(phone, "share study de")
        phone.get_by_role("img").first.click()
        expect(phone.get_by_role("heading", name="Bild 1 von 1")).to_be_visible()
        look_at(phone, "share image de")
        phone.get_by_role("link", name="English").click()
        expect(phone.get_by_role("heading", name="Image 1 of 1")).to_be_visible()
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    assert cookie["path"] == "/share/" + shared.link.rpartition("/")[2]
    assert {re.sub("(https://[^/]+).*", r"\1", request.url) for request in requests} == {
        desk.page.url.rpartition("/")[0]
    }
    assert not [request.url for request in requests if request.all_headers().get("referer")]
    token = shared.link.rpartition("/")[2]
    log = node.cli("users", "log").stdout
    assert "share link opened" in log
    assert not [text for text in (token, shared.pin, shared.pin.replace(" ", "")) if text in node.output + log]


def look_at(phone: Page, name: str) -> None:
    """Keep what a page looks like: its picture is there, and nothing is wider than the phone."""
    picture = phone.get_by_role("img").first
    expect(picture).to_be_visible()
    phone.wait_for_function("() => [...document.images].every(image => image.complete)")
    assert picture.evaluate("image => image.naturalWidth") > 100
    assert phone.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    keep(phone, name)
    assert serious(phone) == []


def test_it_ends_at_once_for_who_looks_at_it(desk, browser, node):  # noqa: F811
    """In Spanish and without JavaScript; revoked at the desk, and another one by its time."""
    shared, other = desk.share("Dr. Ruiz", "Español"), desk.share("Dr. Vega", "Español")
    phone = context_of(browser, locale="es-ES", java_script_enabled=False, **PHONE).new_page()
    for each in (shared, other):
        phone.goto(each.link)
        expect(phone.get_by_role("heading", name="Introduzca el PIN")).to_be_visible()
        phone.get_by_label("PIN").fill(each.pin)
        phone.get_by_role("button", name="Mostrar las imágenes").click()
        expect(phone.get_by_text("Fecha de nacimiento")).to_be_visible()
    keep(phone, "share study es")
    study = phone.url
    desk.open("/shares")
    expect(desk.page.get_by_role("row", name="Dr. Vega")).to_contain_text("1 ×")
    keep(desk.page, "share links")
    assert serious(desk.page) == []
    desk.page.get_by_role("button", name="Revoke the link for Dr. Vega").click()
    expect(desk.page.get_by_role("status")).to_contain_text("is revoked")
    phone.reload()
    expect(phone.get_by_text("Este enlace no funciona")).to_be_visible()
    keep(phone, "share gone es")
    phone.goto(study)
    expect(phone.get_by_text("Este enlace no funciona")).to_be_visible()
    phone.goto(shared.link)
    expect(phone.get_by_text("Fecha de nacimiento")).to_be_visible()
    with contextlib.closing(sqlite3.connect(node.home / "accounts.sqlite")) as accounts, accounts:
        accounts.execute("UPDATE share_link SET until = made_at WHERE made_for = 'Dr. Ruiz'")  # its days are over
    phone.reload()
    expect(phone.get_by_text("Este enlace no funciona")).to_be_visible()
    desk.open("/shares")
    expect(desk.page.get_by_role("row", name="Dr. Ruiz")).to_contain_text("has ended")
