"""Settings on the page, in Chromium beside a node that runs, with real peers to try."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import Page, expect

from backup_scp.node.settings import load
from tests.processes import free_port, wait_until
from tests.system.node import Node, Remote
from tests.system.test_owners import NODE_USER, open_folder, python
from tests.system.test_page import browser, keep, open_page, origin, serious
from tests.system.web import ENABLED, web_node

__all__ = ["browser", "open_folder", "open_page", "python"]
pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def tried(page: Page, name: str) -> str:
    """Press Echo or Try of an entry; return what the page says then."""
    page.locator("li", has=page.locator("strong", has_text=name)).get_by_role("button").click()
    expect(page.locator(".outcome").first).to_be_visible(timeout=100_000)
    said = page.locator("main").inner_text()
    page.get_by_role("link", name="Back to the settings").click()
    return said


def added(node, page: Page, **fields: str) -> None:
    """Add a device by the form, as far as the preview."""
    page.get_by_role("link", name="Add a device").click()
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(value)
    page.get_by_role("button", name="Show what changes").click()


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_device_is_added_tried_and_used_after_the_restart(make_node, open_page, storescp, scripts):
    node = web_node(make_node)
    node.start()
    page = open_page(node, "/settings", java_script_enabled=scripts)
    added(node, page, Name="sink", AE_title=storescp.ae_title, Address=storescp.host, Port="99999")
    expect(page.get_by_role("alert")).to_contain_text("a whole number, at most 65535")
    expect(page.get_by_label("Port", exact=True)).to_have_attribute("aria-invalid", "true")
    if scripts:
        keep(page, "settings, a wrong value")
        assert serious(page) == []
    page.get_by_label("Port", exact=True).fill(str(storescp.port))
    page.get_by_role("button", name="Show what changes").click()
    expect(page.locator(".diff .added", has_text='name = "sink"')).to_contain_text("new")
    if scripts:
        keep(page, "settings, preview")
        assert serious(page) == []
    page.get_by_role("button", name="Write the file").click()
    expect(page.get_by_role("status")).to_contain_text("sudo backup-scp reload")
    assert "answers C-ECHO" in tried(page, "sink")
    if scripts:
        keep(page, "settings, after a change")
        assert serious(page) == []
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 390, "height": 800})
        keep(page, "settings on a phone, dark")
        assert serious(page) == []
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, "the page is wider than a phone"
    assert load(node.config, node.env).find_remote("sink") is not None
    assert "Settings: [[remote]] sink was added on the page, by this machine at 127.0.0.1" in node.output
    node.stop()
    node.remotes.append(Remote("sink", storescp.ae_title, storescp.port))
    node.start()
    page.goto(origin(node) + "/settings")
    expect(page.get_by_text("not in use yet")).to_have_count(0)


def test_what_a_device_that_does_not_answer_says(make_node, open_page):
    """A closed port, a name that is unknown, a wrong AE title."""
    closed = Remote("closed", "CLOSED", free_port())
    unknown = Remote("unknown", "UNKNOWN", 104, host="no-such-host.invalid")
    strict = make_node()
    strict.start()
    wrong = Remote("wrong", "NOT_ITS_TITLE", strict.port)
    node = web_node(make_node, remotes=[closed, unknown, wrong])
    node.start()
    page = open_page(node, "/settings")
    said = tried(page, "closed")
    assert "the port is closed: connection refused" in said
    assert "does its firewall open it?" in said
    assert "the host name no-such-host.invalid is unknown" in tried(page, "unknown")
    said = tried(page, "wrong")
    assert "rejected" in said
    assert "NOT_ITS_TITLE is not its AE title" in said
    page.get_by_role("button", name="Echo: closed").click()
    expect(page.locator(".outcome")).to_be_visible()
    keep(page, "settings, a device that does not answer")
    assert serious(page) == []


def test_a_copy_is_added_and_tried(make_node, open_page, tmp_path):
    (tmp_path / "drive").mkdir()
    node = web_node(make_node, copies=[{"name": "first", "url": f"file://{tmp_path}/drive"}])
    node.start()
    page = open_page(node, "/settings")
    assert "Can it be reached?" in tried(page, "first")
    page.get_by_role("link", name="Add a copy").click()
    keep(page, "settings, a new copy")
    assert serious(page) == []
    page.get_by_label("Name", exact=True).fill("<b>second")
    page.get_by_label("Where", exact=True).fill("file:///media/second")
    page.get_by_role("button", name="Show what changes").click()
    expect(page.get_by_role("alert")).to_contain_text("a name is letters, digits")
    page.get_by_label("Name", exact=True).fill("second")
    page.get_by_role("button", name="Show what changes").click()
    page.get_by_role("button", name="Write the file").click()
    expect(page.get_by_role("status")).to_be_visible()
    page.get_by_role("link", name="Change: second").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.locator(".diff .removed", has_text='name = "second"')).to_contain_text("goes")
    keep(page, "settings, preview of a removal")
    assert serious(page) == []
    page.get_by_role("button", name="Write the file").click()
    expect(page.get_by_text("file:///media/second")).to_have_count(0)
    assert [copy.name for copy in load(node.config, node.env).copy] == ["first"]


def test_two_who_change_the_file_at_once(make_node, open_page):
    node = web_node(make_node, remotes=[Remote("ct", "CT", 104)])
    node.start()
    page = open_page(node, "/settings")
    page.get_by_role("link", name="Change: ct").click()
    page.get_by_label("Port", exact=True).fill("4242")
    page.get_by_role("button", name="Show what changes").click()
    node.config.write_text(by_hand := node.config.read_text() + "# by hand\n")
    page.get_by_role("button", name="Write the file").click()
    expect(page.locator("main")).to_contain_text("was changed since you looked at the preview")
    keep(page, "settings, changed meanwhile")
    assert node.config.read_text() == by_hand


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be several users")
def test_a_file_of_another_user_is_typed_in_by_hand(open_folder, python, processes, open_page):
    """As beside systemd: the file is root's, and the node is not root."""
    settings = {"web": {"port": 0}}
    env = ENABLED | {"PYTHONPATH": python[1]}
    node = Node(open_folder / "node", user=NODE_USER, python=python[0], env=env, settings=settings)
    processes.add(node.process)
    node.home.mkdir()
    os.chown(node.home, NODE_USER, NODE_USER)
    node.start()
    page = open_page(node, "/settings")
    added(node, page, Name="ct", AE_title="CT", Address="192.0.2.9", Port="104")
    expect(page.get_by_role("alert")).to_contain_text(f"sudoedit {node.config}")
    expect(page.get_by_role("button", name="Write the file")).to_have_count(0)
    keep(page, "settings, a file of another user")
    assert serious(page) == []


def test_a_node_without_a_file_gets_one(make_node, open_page):
    node = web_node(make_node)
    named = {"BACKUP_SCP_NODE__PORT": str(node.port), "BACKUP_SCP_NODE__HOST": node.host, "BACKUP_SCP_WEB__PORT": "0"}
    node.process.env |= named
    del node.process.env["BACKUP_SCP_CONFIG"]
    node.process.argv = node.process.argv[:-2]  # without --config
    node.start()
    page = open_page(node, "/settings")
    expect(page.get_by_text("The first change here makes it")).to_be_visible()
    keep(page, "settings without a file")
    assert serious(page) == []
    added(node, page, Name="ct", AE_title="CT", Address="192.0.2.9", Port="104")
    page.get_by_role("button", name="Write the file").click()
    expect(page.get_by_role("status")).to_be_visible()
    node.restart()
    page.goto(origin(node) + "/settings")
    wait_until(lambda: "192.0.2.9" in page.locator("main").inner_text(), what="the device")
    expect(page.get_by_text("not in use yet")).to_have_count(0)
