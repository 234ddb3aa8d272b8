"""Passkeys in Debian's Chromium, with its virtual authenticator, beside a node that runs."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, expect

from tests.system.test_page import browser, keep, open_page, origin, serious  # noqa: F401 - fixtures
from tests.system.test_users import PASSWORD, choose, log_in
from tests.system.web import web_node

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
}
ELSEWHERE = "http://localhost:9"


class Device:
    """A virtual authenticator of one page: it answers at once, also what the page only offers beside the name."""

    def __init__(self, page: Page, *, offers: bool = False) -> None:
        if not offers:
            page.add_init_script("delete PublicKeyCredential.isConditionalMediationAvailable")
        self._session = page.context.new_cdp_session(page)
        self._session.send("WebAuthn.enable")
        made = self._session.send(
            "WebAuthn.addVirtualAuthenticator", {"options": DEVICE | {"automaticPresenceSimulation": True}}
        )
        self._id = made["authenticatorId"]

    def send(self, method: str, **arguments: object) -> dict:
        return self._session.send(f"WebAuthn.{method}", {"authenticatorId": self._id} | arguments)

    def credentials(self) -> list[dict]:
        return self.send("getCredentials")["credentials"]

    def restore(self, *credentials: dict) -> None:
        """Hold these credentials, and no other."""
        self.send("clearCredentials")
        for credential in credentials:
            self.send("addCredential", credential=credential)


@pytest.fixture
def start_node(make_node):
    """Return ``start_node(**web)``: a node that nobody reaches without a login."""

    def start_node(**web: object):
        node = web_node(make_node, web=web, settings={"node": {"trust_this_machine": False}})
        node.start()
        return node

    return start_node


def named(node) -> str:
    """Return the origin by name: passkeys belong to names."""
    return origin(node).replace("127.0.0.1", "localhost")


def invited(node, page: Page, name: str = "Anna") -> None:
    """Let a new user choose a password."""
    link = re.findall(r"/link\?token=\S+", node.cli("users", "add", name).stdout)[0]
    choose(page, named(node) + link, PASSWORD)


def log_out(node, page: Page) -> None:
    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def add_passkey(node, page: Page) -> list[str]:
    """Add one at the page; return the recovery codes."""
    page.goto(named(node) + "/account")
    new = page.locator("form[data-passkey=new]")
    new.get_by_label("Name of the new passkey").fill("My phone")
    new.get_by_label("Your password now").fill(PASSWORD)
    new.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    return page.locator(".codes code").all_inner_texts()


def send_answer(page: Page, answer: str) -> None:
    """Send what another page was told by the device."""
    page.locator("form[data-passkey=alone]").evaluate(
        "(form, answer) => { form.elements.answer.value = answer; form.submit(); }", answer
    )


def test_alone_after_the_password_copied_and_removed(start_node, open_page):  # noqa: F811
    node = start_node()
    page = open_page(node, "/login")
    expect(page.get_by_role("button", name="Log in with a passkey")).to_have_count(0)  # 127.0.0.1 is no name
    device = Device(page)
    invited(node, page)
    recovery = add_passkey(node, page)
    assert len(recovery) == 10
    page.goto(named(node) + "/account")
    keep(page, "passkeys")
    assert serious(page) == []

    log_out(node, page)
    keep(page, "login with a passkey")
    assert serious(page) == []
    page.goto(named(node) + "/account")
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page).to_have_url(named(node) + "/account")
    expect(page.get_by_role("heading", name="My account: Anna")).to_be_visible()

    log_out(node, page)
    log_in(page, "anna", PASSWORD)
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    keep(page, "second step with a passkey")
    assert serious(page) == []
    before = device.credentials()
    page.get_by_role("button", name="Use the passkey").click()
    expect(page.get_by_text("You are logged in.")).to_be_visible()

    device.restore(*before)  # the copy counts on from where it was made
    log_out(node, page)
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_role("alert").first).to_contain_text("There may be a copy of this passkey")
    log_in(page, "anna", PASSWORD)
    page.get_by_label("Code").fill(recovery[0])
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.get_by_text("You are logged in.")).to_be_visible()

    page.goto(named(node) + "/account")
    page.locator("#passkeys summary").click()
    one = page.locator("#passkeys details")
    one.get_by_label("Your password now").fill(PASSWORD)
    one.get_by_role("button", name="Remove this passkey").click()
    expect(page.locator("#passkeys summary")).to_have_count(0)
    log_out(node, page)
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_role("alert").first).to_contain_text("wrong")
    log = node.cli("users", "log").stdout
    assert all(kind in log for kind in ("passkey added", "it may have been copied", "passkey removed"))
    assert "fido2" not in node.output


def test_offered_beside_the_name(start_node, open_page):  # noqa: F811
    node = start_node()
    page = open_page(node, "/login")
    Device(page, offers=True)
    invited(node, page)
    add_passkey(node, page)
    page.goto(named(node) + "/account")
    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_text("You are logged in.")).to_be_visible()


def test_what_another_page_was_told_and_what_was_told_before_open_nothing(start_node, open_page):  # noqa: F811
    node = start_node()
    page = open_page(node, "/login")
    Device(page)
    invited(node, page)
    add_passkey(node, page)
    page.goto(named(node) + "/account")
    log_out(node, page)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or "") if request.method == "POST" else None)
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_text("You are logged in.")).to_be_visible()
    answer = next(fields["answer"][0] for fields in map(parse_qs, sent) if "answer" in fields)

    page.goto(named(node) + "/account")
    log_out(node, page)
    send_answer(page, answer)
    expect(page.get_by_role("alert").first).to_contain_text("wrong")

    options = page.context.request.get(named(node) + "/login/passkey").json()
    page.route(f"{ELSEWHERE}/**", lambda route: route.fulfill(body="<p>Like the node", content_type="text/html"))
    page.goto(f"{ELSEWHERE}/")
    elsewhere = page.evaluate(ASK, options)
    assert json.loads(elsewhere)["id"] == json.loads(answer)["id"]
    for told, is_ours in ((elsewhere, False), (None, True)):
        page.goto(named(node) + "/login")
        send_answer(page, told or page.evaluate(ASK, options))
        if is_ours:
            expect(page.get_by_text("You are logged in.")).to_be_visible()
        else:
            expect(page.get_by_role("alert").first).to_contain_text("wrong")


def test_where_everybody_needs_a_second_step(start_node, open_page):  # noqa: F811
    node = start_node(second_factor="required")
    page = open_page(node, "/login")
    Device(page)
    link = re.findall(r"/link\?token=\S+", node.cli("users", "add", "Anna").stdout)[0]
    page.goto(named(node) + link)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("Once more").fill(PASSWORD)
    page.get_by_role("button", name="Save and log in").click()
    expect(page.get_by_role("status")).to_contain_text("Everybody here needs a second step")
    keep(page, "second step needed")
    assert serious(page) == []
    page.goto(named(node) + "/studies")
    expect(page).to_have_url(named(node) + "/account")
    add_passkey(node, page)
    page.goto(named(node) + "/studies")
    expect(page.get_by_role("heading", name="Search for studies")).to_be_visible()

    other = page.context.browser.new_context(java_script_enabled=False)
    plain = other.new_page()
    plain.goto(named(node) + "/studies")
    log_in(plain, "Anna", PASSWORD)
    expect(plain.get_by_label("Code")).to_be_visible()
    expect(plain.get_by_role("button", name="Use the passkey")).to_be_hidden()
    page.goto(named(node) + "/account")
    page.get_by_role("button", name="Log out everywhere else").click()
    expect(page.get_by_role("heading", name="My account: Anna")).to_be_visible()


ASK = """async (options) => {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return JSON.stringify((await navigator.credentials.get({ publicKey })).toJSON());
}"""
