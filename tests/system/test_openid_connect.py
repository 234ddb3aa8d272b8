"""Log in at a certified provider of OpenID Connect (oidc-provider), in Debian's Chromium beside a node that runs."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.processes import wait_until
from tests.system.oidc_provider.running_provider import CLIENT, SECRET, RunningProvider
from tests.system.test_page import browser, keep, open_page, origin, serious  # noqa: F401 - fixtures
from tests.system.test_users import PASSWORD, choose, log_in
from tests.system.web import web_node

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

LABEL = "the clinic's login"
ROLES = [
    {"role": "see", "group": "radiology", "sites": ["north"]},
    {"role": "restore", "group": "seniors"},
    {"role": "administer", "group": "it"},
]


@pytest.fixture
def provider(tmp_path, processes):
    provider = RunningProvider(tmp_path / "provider")
    processes.add(provider.process)
    provider.set_accounts(maria=["it"], ben=["radiology"])
    yield provider
    provider.process.close()


@pytest.fixture
def node(make_node, provider):
    """A node that knows the provider, which does not run yet."""
    section = {
        "issuer": provider.issuer,
        "client_id": CLIENT,
        "client_secret_file": "openid.secret",
        "label": LABEL,
        "roles": ROLES,
    }
    node = web_node(make_node, settings={"node": {"trust_this_machine": False}, "web.openid_connect": section})
    node.home.mkdir()
    (node.home / "openid.secret").write_text(f"{SECRET}\n")
    node.start()
    return node


@pytest.fixture
def visit(node, open_page):  # noqa: F811
    """Return ``visit(path)``: another browser; the provider's pages would load a font from the internet."""

    def visit(path: str = "/login") -> Page:
        page = open_page(node, path)
        page.route("https://**", lambda route: route.abort())
        return page

    return visit


def to_provider(page: Page) -> None:
    page.get_by_role("link", name=f"Log in with {LABEL}").click()


def log_in_there(page: Page, name: str) -> None:
    """Go to the provider, enter a name, and let it tell the node who that is."""
    to_provider(page)
    enter(page, name)


def enter(page: Page, name: str) -> None:
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def log_out(page: Page) -> None:
    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_role("heading", name="You are logged out here")).to_be_visible()


def expect_refused(page: Page, sentence: str) -> None:
    expect(page.get_by_role("alert")).to_contain_text(sentence)
    expect(page.get_by_role("button", name="Log out", exact=True)).to_have_count(0)


def expect_in(page: Page, name: str) -> None:
    expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def roles_of(node, name: str) -> dict[str, str]:
    return next(one["roles"] for one in node.json("users", "list") if one["name"] == name)


def answer_of(node, page: Page) -> str:
    """Begin a login as somebody whom the provider knows still; return the address that it sends the browser to."""
    ask = page.context.request
    there = ask.get(f"{origin(node)}/login/openid?next=/studies", max_redirects=0).headers["location"]
    return ask.get(there, max_redirects=0).headers["location"]


def with_parameter(address: str, name: str, value: str) -> str:
    parts = urlsplit(address)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    return parts._replace(query=urlencode(query | {name: value})).geturl()


def test_who_comes_in_as_what_and_out_again(node, provider, visit):
    provider.start(origin(node))
    found = node.json("check", exit_code=None)
    assert f"Its redirect address for this node: {origin(node)}/login/openid/callback" in json.dumps(found)

    maria = visit("/users")
    assert serious(maria) == []
    keep(maria, "login with a provider")
    log_in_there(maria, "maria")
    expect(maria).to_have_url(f"{origin(node)}/users")
    expect(maria.get_by_role("heading", name="Users", exact=True)).to_be_visible()

    ben = visit("/studies")
    log_in_there(ben, "ben")
    expect(ben.get_by_role("heading", name="Search for studies")).to_be_visible()
    ben.goto(f"{origin(node)}/users")
    expect(ben.get_by_text("You may not")).to_be_visible()
    assert roles_of(node, "ben") == {"north": "see"}

    provider.set_accounts(maria=[], ben=["radiology", "seniors"])
    log_out(ben)
    keep(ben, "logged out with a provider")
    assert serious(ben) == []
    ben.get_by_role("link", name="Log in", exact=True).click()
    to_provider(ben)  # who is still logged in there: no page of the provider shows
    expect_in(ben, "ben")
    assert roles_of(node, "ben") == {"north": "see", "*": "restore"}

    again = visit()
    log_in_there(again, "maria")
    expect_refused(again, "is in no group that may log in here")
    maria.reload()
    expect(maria.get_by_role("heading", name="Log in")).to_be_visible()
    assert roles_of(node, "maria") == {}

    log_out(ben)
    ben.get_by_role("link", name=f"Log out of {LABEL} as well").click()
    ben.get_by_role("button", name="Yes, sign me out").click()
    expect(ben).to_have_url(re.compile(f"^{re.escape(origin(node))}/login"))
    to_provider(ben)
    ben.get_by_role("link", name="[ Cancel ]").click()
    expect_refused(ben, "it refused, or the login was cancelled")


def test_a_logout_there_ends_the_session_here(node, provider, visit):
    provider.start(origin(node))
    page = visit()
    log_in_there(page, "ben")
    expect_in(page, "ben")
    page.goto(f"{provider.issuer}/session/end")
    page.get_by_role("button", name="Yes, sign me out").click()
    expect(page.get_by_role("heading", name="Sign-out Success")).to_be_visible()
    page.goto(f"{origin(node)}/studies")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert "backchannel" not in provider.process.output


def test_a_provider_that_is_down_and_comes_back_with_another_key(node, provider, visit):
    link = re.findall(r"/link\?token=\S+", node.cli("users", "add", "Anna", "--role", "administer").stdout)[0]
    page = visit()
    choose(page, origin(node) + link, PASSWORD)
    page.get_by_role("button", name="Log out", exact=True).click()
    page.goto(f"{origin(node)}/login")
    to_provider(page)
    expect_refused(page, "does not answer at localhost")
    assert serious(page) == []
    log_in(page, "Anna", PASSWORD)
    expect_in(page, "Anna")

    provider.start(origin(node))
    ben = visit()
    begin = f"{origin(node)}/login/openid?next=/studies"  # the node asks again after two seconds
    wait_until(lambda: ben.goto(begin).url.startswith(provider.issuer), what="the provider's page")
    enter(ben, "ben")
    expect_in(ben, "ben")
    visitor = visit()
    log_in_there(visitor, "maria")
    log_out(visitor)
    answer = answer_of(node, visitor)
    provider.stop()
    visitor.goto(answer)
    expect_refused(visitor, "does not answer at localhost")
    ben.reload()
    expect_in(ben, "ben")

    provider.start(origin(node), key="second")
    visitor.goto(f"{origin(node)}/login")
    log_in_there(visitor, "maria")
    expect_in(visitor, "maria")


def test_an_answer_counts_once_in_one_browser(node, provider, visit):
    provider.start(origin(node))
    page, answers = visit("/studies"), []
    page.on("request", lambda request: answers.append(request.url) if "/login/openid/callback" in request.url else None)
    log_in_there(page, "ben")
    expect_in(page, "ben")
    (used,) = answers
    page.goto(used)
    expect(page.get_by_text("This login was used before")).to_be_visible()
    page.go_back()
    expect_in(page, "ben")
    stranger = visit()
    stranger.goto(used)
    expect_refused(stranger, "This login was used before")

    log_out(page)
    page.goto(used)
    expect_refused(page, "This login was used before")
    of_another = with_parameter(answer_of(node, page), "state", parse_qs(urlsplit(used).query)["state"][0])
    page.goto(of_another)
    expect_refused(page, "This login was used before")
    another_code = parse_qs(urlsplit(used).query)["code"][0]
    page.goto(with_parameter(answer_of(node, page), "code", another_code))
    expect_refused(page, "or its code was used before: begin again")
    log = node.cli("users", "log").stdout + node.output
    assert not [each for each in (another_code, SECRET) if each in log]
