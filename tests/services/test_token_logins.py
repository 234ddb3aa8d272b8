"""Whose token a device brings along: by the provider's keys and roles, and never a user who is disabled here."""

from __future__ import annotations

import contextlib

import pytest

from backup_scp.accounts.sql_accounts import SQLAccounts
from backup_scp.errors import ProviderRefused, ProviderUnavailable
from backup_scp.openid.openid_provider import OpenIDProvider
from backup_scp.ports import SEES_ALL, FederatedIdentity, Role, SiteScope
from backup_scp.services.login_attempts import LoginRefused
from backup_scp.services.provider_roles import RoleRule
from backup_scp.services.token_logins import TokenLogins, TokenUser
from backup_scp.services.user_changes import Actor, UserChanges
from tests.openid.forger import OTHER_KEY, Forger

RULES = (RoleRule(Role.SEE, ("north",), group="radiology"), RoleRule(Role.ADMINISTER, group="it"))


@pytest.fixture
def forger():
    with Forger().running() as running:
        yield running


@pytest.fixture
def accounts(tmp_path):
    with contextlib.closing(SQLAccounts.in_file(tmp_path / "accounts.sqlite")) as accounts:
        yield accounts


@pytest.fixture
def logins(forger, accounts):
    return TokenLogins(accounts, OpenIDProvider(forger.registration()), RULES)


@pytest.mark.parametrize(("group", "scope"), [("radiology", SiteScope.of(["north"])), ("it", SEES_ALL)])
def test_the_groups_of_the_token_say_what_its_user_sees(forger, logins, accounts, group, scope):
    forger.claims = {"preferred_username": "anna", "groups": [group]}
    assert logins.user(forger.id_token()) == TokenUser("anna", scope)
    assert not accounts.has_users()


@pytest.mark.parametrize("groups", [[], ["kitchen"]])
def test_whoever_is_in_no_group_is_refused(forger, logins, groups):
    forger.claims = {"groups": groups}
    with pytest.raises(LoginRefused, match="no group that roles"):
        logins.user(forger.id_token())


def test_a_user_of_this_node_has_the_name_it_has_here_and_is_refused_when_disabled(forger, logins, accounts):
    forger.claims = {"preferred_username": "someone else", "groups": ["it"]}
    changes = UserChanges(accounts)
    user = changes.add("anna", {"north": Role.SEE}, Actor("test"), FederatedIdentity(forger.issuer, "4711"))
    assert logins.user(forger.id_token()).name == "anna"
    accounts.set_disabled(user.id, is_disabled=True)
    with pytest.raises(LoginRefused, match="disabled here"):
        logins.user(forger.id_token())


def test_the_name_of_another_user_here_is_not_taken_over(forger, logins, accounts):
    UserChanges(accounts).add("anna", {"north": Role.SEE}, Actor("test"))
    forger.claims = {"preferred_username": "Anna", "groups": ["it"]}
    with pytest.raises(LoginRefused, match="another user of this name"):
        logins.user(forger.id_token())


def test_a_forged_token_and_a_provider_that_is_down(forger, logins):
    forger.keys = [OTHER_KEY]
    with pytest.raises(ProviderRefused):
        logins.user(forger.id_token())
    forger.answers["/.well-known/openid-configuration"] = (503, b"")
    with pytest.raises(ProviderUnavailable):
        TokenLogins(logins._accounts, OpenIDProvider(forger.registration()), RULES).user(forger.id_token())
