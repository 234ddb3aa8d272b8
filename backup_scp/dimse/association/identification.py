"""Decide who the user of an Association is, as the policy of the caller's ``[[remote]]`` says (PS3.7 D.3.3.7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from backup_scp.dimse.association.access import Caller, printable
from backup_scp.dimse.association.negotiation import AssociateReject
from backup_scp.dimse.upper_layer.user_identity import IdentityKind, OfferedIdentity
from backup_scp.errors import BackupSCPError, Unavailable
from backup_scp.machine.addresses import is_loopback
from backup_scp.ports import SEES_ALL, RemoteAE, User, UserIdentity
from backup_scp.services.login_attempts import Origin, TooManyAttempts
from backup_scp.services.permissions import Right, scope_with
from backup_scp.services.token_logins import TokenUser

_KINDS = {
    IdentityKind.UNREADABLE: "a user identity that cannot be read",
    IdentityKind.NAME: "a user name without a passcode",
    IdentityKind.PASSCODE: "a user name with a passcode",
    IdentityKind.KERBEROS: "a Kerberos ticket, which this node cannot check",
    IdentityKind.SAML: "a SAML assertion, which this node cannot check",
    IdentityKind.TOKEN: "a JSON Web Token",
}
_WANTED = {
    UserIdentity.NAME: ((IdentityKind.NAME, IdentityKind.PASSCODE), "a user name"),
    UserIdentity.PASSWORD: ((IdentityKind.PASSCODE,), "a user name with a passcode"),
    UserIdentity.TOKEN: ((IdentityKind.TOKEN,), "a JSON Web Token"),
}


class UserLogins(Protocol):
    """Compares names and passcodes: see ``services.association_logins``."""

    def user(self, name: str, passcode: str, origin: Origin) -> User:
        """Return the user.

        Raises
        ------
        Refused, Unavailable
        """


class Identification:
    """Checks what callers say of their users.

    Parameters
    ----------
    logins
        Compares names and passcodes; None when no ``[[remote]]`` needs it.
    token_user
        Returns the user of a token, or raises ``Refused`` or ``Unavailable``; None likewise.
    """

    def __init__(self, logins: UserLogins | None = None, token_user: Callable[[str], TokenUser] | None = None) -> None:
        self._logins = logins
        self._token_user = token_user

    def identify(
        self, caller: Caller, offered: OfferedIdentity | None, *, is_secured: bool
    ) -> tuple[Caller, AssociateReject | None]:
        """Return the caller with its user; and a rejection when it does not say what its ``[[remote]]`` asks for."""
        remote = caller.remote
        if remote is None or remote.user_identity is UserIdentity.NONE:
            return caller, None
        if rejection := _not_as_wanted(caller, remote, offered, is_secured=is_secured):
            return caller, rejection
        assert offered is not None, "it is as wanted"  # noqa: S101 - for the type checker
        try:
            return self._identified(caller, remote, offered)
        except TooManyAttempts as error:
            return caller, _later(str(error), "correct user name and passcode there, and wait")
        except Unavailable as error:
            return caller, _later(str(error), "try again later")
        except BackupSCPError as error:
            fix = (
                "let the device fetch a new token from the provider, for this node; docs/openid-connect.md"
                if remote.user_identity is UserIdentity.TOKEN
                else "correct user name and secret there; the page Users shows the attempts"
            )
            return caller, user_rejected(f"its user was refused: {error}", fix)

    def _identified(
        self, caller: Caller, remote: RemoteAE, offered: OfferedIdentity
    ) -> tuple[Caller, AssociateReject | None]:
        """Compare what was said.

        Raises
        ------
        Refused, Unavailable
        """
        found = TokenUser(offered.name, SEES_ALL)
        if remote.user_identity is UserIdentity.TOKEN:
            if self._token_user is None:
                raise Unavailable("This process checks no tokens")
            found = self._token_user(offered.name)
        if not _is_listed(found.name, remote):
            reason = f"its user is not one of users of [[remote]] {remote.name}"  # a name may be a password, misplaced
            return caller, user_rejected(reason, "correct the user name there, or add it to users in the settings")
        if remote.user_identity is UserIdentity.PASSWORD:
            if self._logins is None:
                raise Unavailable("This process compares no passcodes")
            user = self._logins.user(offered.name, offered.passcode, Origin(caller.address, caller.ae_title))
            found = TokenUser(user.name, scope_with(user.roles, Right.FIND))
        return replace(caller, user=found.name, user_scope=found.scope), None


def _not_as_wanted(
    caller: Caller, remote: RemoteAE, offered: OfferedIdentity | None, *, is_secured: bool
) -> AssociateReject | None:
    """Reject a caller that sends another kind of identity, or a secret that others can read."""
    kinds, wanted = _WANTED[remote.user_identity]
    if offered is None or offered.kind not in kinds:
        sent = f"sends {_KINDS[offered.kind]}" if offered else "sends no user identity"
        return user_rejected(
            f"it {sent}, and user_identity of [[remote]] {remote.name} asks for {wanted}",
            f"switch on User Identity there, with {wanted}; or change user_identity in the settings",
        )
    is_secret = remote.user_identity is not UserIdentity.NAME
    is_here = caller.is_this_machine or is_loopback(caller.address)
    if is_secret and not is_secured and not is_here:
        return user_rejected(
            "it sends a secret of its user without TLS, where others can read it",
            "let it call the port with TLS, and change the secret",
        )
    return None


def _is_listed(name: str, remote: RemoteAE) -> bool:
    listed = {each.casefold() for each in remote.users}
    return name.casefold() in listed or (not listed and remote.user_identity is not UserIdentity.NAME)


def user_rejected(reason: str, fix: str) -> AssociateReject:
    """Reject for good, as the standard says of a failed authorization (PS3.7 D.3.3.7.3)."""
    return AssociateReject(1, 2, 1, reason, fix)


def _later(reason: str, fix: str) -> AssociateReject:
    return AssociateReject(2, 3, 1, reason, fix)


def user_of(caller: Caller) -> str:
    """Describe the user of a caller for the log; empty without one."""
    return f" as {printable(caller.user)}" if caller.user else ""
