"""Users in Debian's Chromium beside a node that runs: two browsers at once, and the command line."""

from __future__ import annotations

import re

import pyotp
import pytest
from playwright.sync_api import Page, expect

from backup_scp.machine import clock
from tests.processes import wait_until
from tests.system.test_page import browser, keep, open_page, origin, serious  # noqa: F401 - fixtures
from tests.system.web import web_node

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PASSWORD = "correct horse battery"
OTHER = "sieben rote Lampen"


@pytest.fixture
def node(make_node):
    """A node that nobody reaches without a login."""
    node = web_node(make_node, settings={"node": {"trust_this_machine": False}})
    node.start()
    return node


def choose(page: Page, link: str, password: str, name: str = "") -> None:
    page.goto(link)
    if name:
        page.get_by_label("Name").fill(name)
    page.get_by_label("New password").fill(password)
    page.get_by_label("Once more").fill(password)
    page.get_by_role("button", name="Save and log in").click()
    expect(page.get_by_text("You are logged in.")).to_be_visible()


def log_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in", exact=True).click()


def test_an_administrator_makes_a_user_and_ends_its_session_at_once(node, open_page):  # noqa: F811
    added = node.cli("users", "add", "Maria", "--role", "administer").stdout
    link = re.findall(r"/link\?token=\S+", added)[0]
    admin = open_page(node, link)
    assert serious(admin) == []
    choose(admin, origin(node) + link, PASSWORD)
    admin.goto(origin(node) + "/users")
    keep(admin, "users")
    assert serious(admin) == []
    admin.get_by_label("Name").first.fill("Ben")
    admin.get_by_role("button", name="Add", exact=True).click()
    for_ben = admin.locator("#link").inner_text()

    context = admin.context.browser.new_context(java_script_enabled=False)
    ben = context.new_page()
    choose(ben, for_ben, OTHER)
    expect(ben.get_by_text("You are logged in.")).to_be_visible()
    ben.goto(origin(node) + "/users")
    expect(ben.get_by_text("You may not")).to_be_visible()
    ben.goto(origin(node) + "/studies")
    expect(ben.get_by_role("heading", name="Search for studies")).to_be_visible()

    admin.goto(origin(node) + "/users")
    admin.locator("details.user", has_text="Ben").locator("summary").click()
    admin.locator("details.user", has_text="Ben").get_by_role("button", name="Disable").click()
    expect(admin.get_by_text("Done: Ben")).to_be_visible()
    ben.reload()
    expect(ben.get_by_role("heading", name="Log in")).to_be_visible()
    log_in(ben, "Ben", OTHER)
    expect(ben.get_by_role("alert")).to_contain_text("wrong")
    assert serious(admin) == []
    log = node.cli("users", "log").stdout
    assert "login failed" in log
    assert PASSWORD not in node.output + log
    assert not [one for one in (link, for_ben.partition("/link")[2]) if one.partition("=")[2] in node.output]


def test_codes_of_an_app_and_the_page_behind_the_login(node, open_page):  # noqa: F811
    link = re.findall(r"/link\?token=\S+", node.cli("users", "add", "Anna").stdout)[0]
    page = open_page(node, "/studies?q=mul")
    expect(page).to_have_url(re.compile("/login\\?next="))
    keep(page, "login")
    assert serious(page) == []
    choose(page, origin(node) + link, PASSWORD)
    page.get_by_role("link", name="Anna").click()
    keep(page, "account")
    assert serious(page) == []
    page.get_by_role("link", name="Turn codes on").click()
    keep(page, "codes")
    assert serious(page) == []
    secret = page.locator("code").inner_text().replace(" ", "")
    page.get_by_label("Your password now").fill(PASSWORD)
    page.get_by_label("Code of the app").fill(pyotp.TOTP(secret).at(clock.now()))
    page.get_by_role("button", name="Turn codes on").click()
    recovery = page.locator(".codes code").first.inner_text()
    assert serious(page) == []
    page.get_by_role("button", name="Log out").click()
    page.goto(origin(node) + "/studies?q=mul")
    log_in(page, "ANNA", PASSWORD)
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    assert serious(page) == []
    page.get_by_label("Code").fill(recovery)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile("/studies\\?q=mul"))


def test_the_first_administrator_comes_by_the_link_that_serve_prints(make_node, open_page):  # noqa: F811
    node = web_node(make_node, settings={"node": {"trust_this_machine": False}})
    node.start()
    link = wait_until(lambda: re.findall(r"http://127\.0\.0\.1:\d+(/link\?token=\S+)", node.output), what="the link")[0]
    page = open_page(node)
    expect(page.get_by_text("There are no users yet")).to_be_visible()
    assert page.locator("nav a").count() == 0
    choose(page, origin(node) + link, PASSWORD, "Maria")
    expect(page.get_by_text("You are logged in.")).to_be_visible()
    page.goto(origin(node) + link)
    expect(page.get_by_text("This link was used")).to_be_visible()
    node.restart()
    assert "/link?token=" not in node.output.rpartition(" is ready")[2]
