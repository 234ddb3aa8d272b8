"""`users`: add, list, change, reset, disable, remove; links, and never a password as an argument."""

from __future__ import annotations

import json
import re
from contextlib import closing

import pytest

from backup_scp.machine import clock
from backup_scp.node.accounts_setup import first_link, has_users, open_accounts
from backup_scp.node.settings import load
from backup_scp.ports import AuditKind, Role
from backup_scp.services import passwords
from backup_scp.services.logins import Logins, Origin
from backup_scp.services.user_changes import UserChanges

PASSWORD = "correct horse battery"


@pytest.fixture
def accounts(home):
    with closing(open_accounts(load(None, {"BACKUP_SCP_HOME": str(home)}))) as accounts:
        yield accounts


def test_added_with_a_link_and_listed(run, home, accounts):
    assert "no users yet" in run("users", "list").out
    told = run("users", "add", "María Núñez", "--role", "restore", "--site", "north", "--site", "south")
    assert told.code == 0
    (token,) = re.findall(r"http://127\.0\.0\.1:8042/link\?token=(\S{43})", told.out)
    assert UserChanges(accounts).link(token)
    (listed,) = json.loads(run("users", "list", "--json").out)
    assert listed["roles"] == {"north": "restore", "south": "restore"}
    assert listed["state"] == "no password yet"
    assert "restore at north, restore at south" in run("users", "list").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "x"], "2 to 64"), (["add", "anna", "--role", "administer", "--site", "north"], "every site"),
        (["add", "anna", "--site", "a\\b"], "site"), (["reset", "nobody"], "no user"),
        (["role", "nobody", "--role", "see"], "no user"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(run, arguments, said):
    told = run("users", *arguments)
    assert (told.code, said in told.err) == (1, True)


def test_a_role_that_there_is_not_is_said_in_a_sentence(run, home):
    told = run("users", "add", "anna", "--role", "chief", "--json")
    assert (told.code, "'chief' is not one of 'see', 'restore', 'share', 'administer'" in told.err) == (2, True)
    assert "Value error" not in told.err + told.out


def test_changed_reset_disabled_removed(run, accounts):
    run("users", "add", "anna")
    user = UserChanges(accounts).found("anna")
    accounts.set_password(user.id, passwords.hashed(PASSWORD))
    begun = Logins(accounts).log_in("anna", PASSWORD, Origin())
    assert run("users", "role", "ANNA", "--role", "share", "--site", "north").code == 0
    assert accounts.credentials("anna").user.roles == {"north": Role.SHARE}
    disabled = json.loads(run("users", "disable", "anna", "--json").out)
    assert disabled == {"user": "anna", "done": "disabled, all sessions have ended", "link": ""}
    assert Logins(accounts).logged_in(begun.token) is None
    run("users", "enable", "anna")
    reset = json.loads(run("users", "reset", "anna", "--json").out)
    assert "/link?token=" in reset["link"]
    assert not UserChanges(accounts).found("anna").has_password
    run("users", "remove", "anna")
    log = json.loads(run("users", "log", "--json").out)
    assert [line["kind"] for line in log[:2]] == [AuditKind.USER_REMOVED, AuditKind.USER_RESET]
    assert all(line["who"].startswith("command line") for line in log if line["kind"] != AuditKind.LOGIN)
    assert "user removed" in run("users", "log", "--last", "1").out


def test_a_password_is_asked_for(run, accounts, monkeypatch):
    monkeypatch.setattr("typer.prompt", lambda *_, **options: PASSWORD if options["hide_input"] else "")
    told = run("users", "add", "anna", "--ask-password")
    assert (told.code, "link" in told.out, PASSWORD in told.out) == (0, False, False)
    assert passwords.is_right(accounts.credentials("anna").password_hash, PASSWORD)


class TestFirstLink:
    def settings(self, home, web: str):
        file = home / "settings.toml"
        file.write_text(f"[web]\n{web}")
        return load(file, {"BACKUP_SCP_HOME": str(home)})

    def test_only_where_others_reach_the_page(self, home):
        for web in ("", "host = 'localhost'", "enabled = false\nhost = '0.0.0.0'"):
            assert first_link(self.settings(home, web), 8042) == ""
        assert not (home / "accounts.sqlite").exists()

    def test_while_there_is_no_administrator(self, home, accounts):
        settings = self.settings(home, "public_url = 'https://pacs.example/backup'")
        link = first_link(settings, 8042)
        assert link.startswith("https://pacs.example/backup/link?token=")
        assert not has_users(settings)
        token = link.partition("=")[2]
        UserChanges(accounts).use_link(token, "root", PASSWORD, "")
        assert (first_link(settings, 8042), has_users(settings)) == ("", True)
        assert accounts.users()[0].added_at <= clock.now()
