"""Two browsers of two clinics at once, and that of their owner, who links a patient of both: in Debian's Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.samples import uid
from tests.system.node import Remote
from tests.system.test_page import browser, keep, open_page, origin, sample, serious  # noqa: F401 - fixtures
from tests.system.web import web_node

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PASSWORD = "correct horse battery"
ANA = {"PatientName": "García^Ana", "PatientID": "P1", "PatientBirthDate": "19700131"}
REMOTES = [Remote(f"{site}-dx", site.upper(), 104, site=site) for site in ("north", "south")]


@pytest.fixture
def node(make_node):
    node = web_node(make_node, remotes=REMOTES, settings={"node": {"trust_this_machine": False}})
    node.start()
    images = {"NORTH": (1, "Hand left"), "SOUTH": (2, "Knee right")}
    for calling, (number, what) in images.items():
        assert [one.status for one in node.send([sample(number, **ANA, StudyDescription=what)], calling=calling)] == [0]
    return node


@pytest.fixture
def log_in(node, open_page, browser):  # noqa: F811
    """Return ``log_in(name, role, *sites)``: a browser of its own, in which this user has just chosen a password."""

    def log_in(name: str, role: str, *sites: str) -> Page:
        named = [option for site in sites for option in ("--site", site)]
        told = node.cli("users", "add", name, "--role", role, *named).stdout
        page = browser.new_context(viewport={"width": 1200, "height": 850}, locale="en-US").new_page()
        page.goto(origin(node) + re.findall(r"/link\?token=\S+", told)[0])
        page.get_by_label("New password").fill(PASSWORD)
        page.get_by_label("Once more").fill(PASSWORD)
        page.get_by_role("button", name="Save and log in").click()
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        return page

    return log_in


def open_study(page: Page, node, number: int) -> None:
    page.goto(f"{origin(node)}/study?uid={uid(str(number))}")


def test_linked_seen_by_who_sees_both_and_by_nobody_else(node, log_in):
    north, south = log_in("Nora", "share", "north"), log_in("Saul", "share", "south")
    owner = log_in("Olga", "share", "north", "south")
    before = []
    for page, number in ((north, 1), (south, 2)):
        open_study(page, node, number)
        expect(page.get_by_role("heading", name="García, Ana")).to_be_visible()
        before.append(page.content())
        open_study(page, node, 3 - number)
        expect(page.get_by_text("There is no such study")).to_be_visible()
        page.goto(origin(node) + "/patients")
        expect(page.get_by_text("You may not")).to_be_visible()

    open_study(owner, node, 1)
    owner.get_by_role("link", name="Link patient P1 of north").click()
    assert serious(owner) == []
    expect(owner.get_by_text("south: P1 · García, Ana")).to_be_visible()
    owner.get_by_role("button", name="Compare with south: P1").click()
    keep(owner, "patients-compare")
    assert serious(owner) == []
    owner.get_by_role("button", name="Link: they are one person").click()
    expect(owner.get_by_text("linked by Olga")).to_be_visible()
    keep(owner, "patients")
    assert serious(owner) == []
    open_study(owner, node, 1)
    expect(owner.get_by_role("heading", name="The same person in other clinics")).to_be_visible()
    keep(owner, "study-linked")
    assert serious(owner) == []
    owner.get_by_role("link", name=re.compile("Knee right")).click()
    expect(owner.get_by_role("link", name=re.compile("Hand left"))).to_be_visible()

    for page, number, text in zip((north, south), (1, 2), before, strict=True):
        open_study(page, node, number)
        assert page.content() == text
    owner.set_viewport_size({"width": 390, "height": 800})
    owner.goto(origin(node) + "/patients")
    keep(owner, "patients-narrow")
    assert owner.evaluate("document.documentElement.scrollWidth <= innerWidth")
    owner.get_by_role("button", name="Take back link 1").click()
    expect(owner.get_by_text("taken back by Olga")).to_be_visible()
    open_study(owner, node, 1)
    expect(owner.get_by_role("heading", name="García, Ana")).to_be_visible()
    assert owner.get_by_text("Knee right").count() == 0
    assert node.cli("patients", "links").stdout.count("by Olga") == 2
    log = node.cli("users", "log").stdout
    assert ("patients linked" in log, "García" in log, "P1" in log) == (True, False, False)


def test_a_rebuild_keeps_a_link(node):
    pair = ("--site", "north", "--patient-id", "P1", "--other-site", "south", "--other-patient-id", "P1")
    node.cli("patients", "link", *pair, "--yes")
    links = node.json("patients", "links")
    node.stop()
    for path in node.home.glob("index.sqlite*"):
        path.unlink()
    node.cli("rebuild")
    node.start()
    assert node.json("patients", "links") == links
    node.cli("patients", "unlink", "1")
    assert [one["unlinked_at"] for one in node.json("patients", "links")] != [None]
