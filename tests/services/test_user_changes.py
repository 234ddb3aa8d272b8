from __future__ import annotations

import contextlib
import itertools

import pyotp
import pytest

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.errors import InvalidSelection
from backup_scp.machine import clock as machine_clock
from backup_scp.ports import EVERY_SITE, SEES_ALL, SEES_NOTHING, AuditKind, Role, SiteScope
from backup_scp.services import one_time_codes, passwords
from backup_scp.services.permissions import LINK_RIGHTS, OF_THE_NODE, ROLE_RIGHTS, Right, scope_with, user_may
from backup_scp.services.user_changes import Actor, UserChanges, roles_of

BY = Actor("root", "192.0.2.1")
PASSWORD = "correct horse battery"


@pytest.fixture
def accounts(tmp_path):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def changes(accounts) -> UserChanges:
    return UserChanges(accounts)


@pytest.mark.parametrize("name", ["", "x", " a ", "a\x1b[2J", "y" * 65, "a\u202eb"])
def test_a_name_that_cannot_be(changes, name):
    with pytest.raises(InvalidSelection, match="2 to 64"):
        changes.add(name, roles_of(Role.SEE, []), BY)


def test_who_administers_sees_every_site(changes):
    with pytest.raises(InvalidSelection, match="every site"):
        changes.add("anna", roles_of(Role.ADMINISTER, ["north"]), BY)
    with pytest.raises(InvalidSelection, match="role"):
        changes.add("anna", {}, BY)


def test_the_last_administrator_stays(changes):
    root = changes.add("root", roles_of(Role.ADMINISTER, []), BY)
    for change in (
        lambda: changes.remove(root, BY),
        lambda: changes.set_disabled(root, BY, is_disabled=True),
        lambda: changes.set_roles(root, roles_of(Role.SEE, []), BY),
    ):
        with pytest.raises(InvalidSelection, match="only administrator"):
            change()
    changes.add("second", roles_of(Role.ADMINISTER, []), BY)
    changes.remove(root, BY)
    assert changes.found("second").is_administrator


class TestLinks:
    def test_a_password_is_chosen_once(self, changes, accounts):
        token = changes.new_link(changes.add("anna", roles_of(Role.SEE, ["north"]), BY))
        with pytest.raises(InvalidSelection, match="12 characters"):
            changes.use_link(token, "", "short", "192.0.2.9")
        known = changes.use_link(token, "", PASSWORD, "192.0.2.9")
        assert passwords.is_right(known.password_hash, PASSWORD)
        with pytest.raises(InvalidSelection, match="was used"):
            changes.use_link(token, "", PASSWORD + "!", "192.0.2.9")

    def test_it_ends(self, changes, clock):
        token = changes.new_link(changes.add("anna", roles_of(Role.SEE, []), BY))
        clock.jump(days=3, seconds=1)
        assert changes.link(token) is None

    def test_a_reset_takes_password_codes_and_older_links(self, changes, accounts):
        user = changes.add("anna", roles_of(Role.SEE, []), BY)
        accounts.set_codes(user.id, one_time_codes.new_secret(), ["x"])
        older = changes.new_link(user)
        newer = changes.reset(user, BY)
        found = changes.found("anna")
        assert (found.has_password, found.has_codes) == (False, False)
        assert (changes.link(older), changes.link(newer) is None) == (None, False)

    def test_the_first_administrator(self, changes, accounts):
        older = changes.renew_first_link()
        token = changes.renew_first_link()
        assert changes.link(older) is None
        with pytest.raises(InvalidSelection, match="name in it"):
            changes.use_link(token, "Root User", "root user forever", "192.0.2.9")
        known = changes.use_link(token, "Root User", PASSWORD, "192.0.2.9")
        assert known.user.is_administrator
        assert changes.link(token) is None
        assert changes.renew_first_link() == ""

    def test_it_ends_when_there_is_one_by_another_way(self, changes, accounts):
        token = changes.renew_first_link()
        root = changes.add("root", roles_of(Role.ADMINISTER, []), BY)
        assert changes.link(token)
        changes.set_password(root, PASSWORD, BY)
        assert changes.link(token) is None

    def test_it_ends_after_an_hour(self, changes, clock):
        token = changes.renew_first_link()
        clock.jump(hours=1, seconds=1)
        assert changes.link(token) is None

    def test_a_guess(self, changes):
        changes.renew_first_link()
        for guess in ("", "x", "' OR 1=1 --", "\ud800"):
            assert changes.link(guess) is None


def test_codes_are_on_only_when_the_app_shows_the_right_one(changes, accounts):
    user, secret = changes.add("anna", roles_of(Role.SEE, []), BY), one_time_codes.new_secret()
    with pytest.raises(InvalidSelection, match="wrong"):
        changes.turn_codes_on(user, secret, "12", BY)
    code = pyotp.TOTP(secret).at(machine_clock.now())
    codes = changes.turn_codes_on(user, secret, code, BY)
    assert (changes.found("anna").has_codes, accounts.recovery_codes_left(user.id)) == (True, len(codes))
    step = one_time_codes.step_of(secret, code, machine_clock.now())
    assert not accounts.use_step(user.id, step or 0)  # the code was used to turn them on
    changes.turn_codes_off(user, BY)
    assert not changes.found("anna").has_codes


def test_each_change_is_in_the_audit_without_a_secret(changes, accounts):
    changes.add("root", roles_of(Role.ADMINISTER, []), BY)
    user = changes.add("anna", roles_of(Role.SEE, []), BY)
    changes.set_password(user, PASSWORD, Actor("anna"))
    changes.set_roles(user, roles_of(Role.SHARE, ["north"]), BY)
    token = changes.reset(user, BY)
    changes.set_disabled(user, BY, is_disabled=True)
    changes.set_disabled(user, BY, is_disabled=False)
    changes.remove(user, BY)
    events = accounts.events(20)
    assert [event.kind for event in events[::-1]] == [
        AuditKind.USER_ADDED, AuditKind.USER_ADDED, AuditKind.PASSWORD_CHOSEN, AuditKind.USER_CHANGED,
        AuditKind.USER_RESET, AuditKind.USER_DISABLED, AuditKind.USER_ENABLED, AuditKind.USER_REMOVED,
    ]  # fmt: skip
    assert (events[0].who, events[0].about, events[0].address) == ("root", "anna", "192.0.2.1")
    assert token not in repr(events)
    assert PASSWORD not in repr(events)


OF_DEVICES = {Right.ECHO, Right.MOVE, Right.COMMIT, Right.REPORT, Right.RECEIVE}
"""Nobody does these on a page."""


class TestRights:
    def test_every_role_may_what_those_before_it_may(self):
        rights = [ROLE_RIGHTS[role] for role in Role]
        assert all(less < more for less, more in itertools.pairwise(rights))
        assert ROLE_RIGHTS[Role.ADMINISTER] == set(Right) - LINK_RIGHTS[True] - OF_DEVICES

    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("right", Right)
    def test_a_site_limits_all_but_what_is_the_node_s(self, role, right):
        may = right in ROLE_RIGHTS[role]
        assert scope_with({EVERY_SITE: role}, right) == (SEES_ALL if may else SEES_NOTHING)
        at_one = scope_with({"north": role}, right)
        needs_more = right in OF_THE_NODE or right is Right.LINK
        assert at_one == (SiteScope.of(["north"]) if may and not needs_more else SEES_NOTHING)
        assert user_may({"north": role}, right) == bool(at_one.sites)

    def test_another_role_at_another_site(self):
        roles = {"north": Role.SEE, "south": Role.SHARE}
        assert scope_with(roles, Right.FIND) == SiteScope.of({"north", "south"})
        assert scope_with(roles, Right.SHARE) == SiteScope.of({"south"})
        assert scope_with(roles, Right.LINK) == SEES_NOTHING
        assert scope_with(roles | {"north": Role.SHARE}, Right.LINK) == SiteScope.of({"north", "south"})
        assert scope_with({}, Right.FIND) == SEES_NOTHING
        assert scope_with(roles | {EVERY_SITE: Role.SEE}, Right.SHARE) == SiteScope.of({"south"})
