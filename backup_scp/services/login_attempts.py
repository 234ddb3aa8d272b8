"""One attempt to log in by name and password: compared, counted, delayed after failures, and audited."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from backup_scp.errors import Refused
from backup_scp.machine import clock
from backup_scp.ports import Accounts, AuditEvent, AuditKind, UserCredentials
from backup_scp.services import passwords
from backup_scp.services.backoff import Backoff, network_of

_KNOWN_FOR = timedelta(days=90)  # an address from which a user has logged in

Keys = tuple[str, str]
"""What the failures of an attempt are counted by: the name, empty without one, and the network."""


class LoginRefused(Refused):
    """Name, password or code is wrong; the text does not tell which."""


class TooManyAttempts(Refused):
    """Too many attempts have failed.

    Parameters
    ----------
    wait_s
        Seconds until the next one.
    """

    def __init__(self, wait_s: float) -> None:
        self.wait_s = math.ceil(wait_s)
        super().__init__(f"Too many attempts have failed: wait {self.wait_s} seconds, and try again")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a login comes from: address and browser."""

    address: str = ""
    agent: str = ""


class LoginAttempts:
    """Compares names and passwords, on the page and in Associations alike.

    Parameters
    ----------
    accounts
        The users.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._by_name = Backoff(accounts, "name", longest_s=60)
        self._by_network = Backoff(accounts, "address", free=20)

    def compared(self, name: str, password: str, origin: Origin) -> tuple[UserCredentials, Keys]:
        """Return whose name and password these are, and what to pass to ``succeeded``.

        The work is the same for a name that nobody has.

        Raises
        ------
        LoginRefused, TooManyAttempts, AccountsUnavailable
        """
        known = self._accounts.credentials(name)
        keys = self.begin(known.user.name if known else name, origin)
        if not passwords.is_right(known.password_hash if known else "", password) or known is None:
            raise self.refused(name, origin)
        if known.user.is_disabled:
            raise self.refused(known.user.name, origin)
        if passwords.is_outdated(known.password_hash):
            self._accounts.set_password(known.user.id, passwords.hashed(password), ends_sessions=False)
        return known, keys

    def begin(self, name: str, origin: Origin) -> Keys:
        """Begin an attempt, if it may be tried now.

        Failures from elsewhere do not keep a user waiting who has logged in from this address before.

        Raises
        ------
        TooManyAttempts
        """
        _, network = self.begin_unnamed(origin)
        since = clock.now() - _KNOWN_FOR
        is_known = bool(origin.address) and self._accounts.has_logged_in(name, origin.address, since)
        by_name = f"{name.casefold()}\0{network}" if is_known else name.casefold()
        if wait_s := self._by_name.begin(by_name):
            raise TooManyAttempts(wait_s)
        return by_name, network

    def begin_unnamed(self, origin: Origin) -> Keys:
        """Begin an attempt of somebody whose name is not known yet.

        Raises
        ------
        TooManyAttempts
        """
        network = network_of(origin.address)
        if wait_s := self._by_network.begin(network):
            raise TooManyAttempts(wait_s)
        return "", network

    def succeeded(self, keys: Keys) -> None:
        """Forget the failures before it."""
        by_name, network = keys
        if by_name:
            self._by_name.succeeded(by_name)
        self._by_network.succeeded(network)

    def refused(self, name: str, origin: Origin) -> LoginRefused:
        """Audit a failure, and return the error for it."""
        self.record(AuditKind.LOGIN_FAILED, name, origin)
        return LoginRefused("Name, password or code is wrong")

    def record(self, kind: AuditKind, who: str, origin: Origin, about: str = "") -> None:
        """Add a line to the audit."""
        self._accounts.record(AuditEvent(clock.now(), kind, who, about, origin.address))
