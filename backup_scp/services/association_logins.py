"""Compare the user name and passcode of an Association with the users of the node (PS3.7 D.3.3.7; docs/adr/0074)."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from backup_scp.errors import Unavailable
from backup_scp.machine.fair_lock import FairLock
from backup_scp.ports import Accounts, AuditKind, User, UserCredentials
from backup_scp.services.login_attempts import LoginAttempts, LoginRefused, Origin

_KEPT_S = 3600.0
_MOST_KEPT = 256
_PATIENCE_S = 20.0
_LONGEST = 512  # characters of a name or a passcode


@dataclass(frozen=True, slots=True)
class _Proof:
    """A passcode that was right: while the stored hash is the same, it still is."""

    password_hash: str = field(repr=False)
    until: float


class AssociationLogins:
    """Tells whose name and passcode a calling device sends.

    Argon2id takes 64 MiB and a core for a moment, and a console may open an Association for each image.  So one
    passcode is compared at a time, in the order of the calls, and a right one is known for an hour by a digest in
    memory.  Failures delay further attempts as on the login page.

    Parameters
    ----------
    accounts
        The users.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._attempts = LoginAttempts(accounts)
        self._secret = secrets.token_bytes(32)
        self._turns = FairLock()
        self._lock = threading.Lock()
        self._proofs: OrderedDict[bytes, _Proof] = OrderedDict()

    def user(self, name: str, passcode: str, origin: Origin) -> User:
        """Return the user.

        Raises
        ------
        LoginRefused, TooManyAttempts, AccountsUnavailable
        Unavailable
            Too many are compared at once.
        """
        if len(name) > _LONGEST or len(passcode) > _LONGEST:
            raise LoginRefused("Name or passcode is too long")
        digest = hashlib.blake2b(f"{name}\0{passcode}".encode("utf-8", "replace"), key=self._secret).digest()
        if (user := self._known(name, digest)) is not None:
            return user
        with self._turns.turn(timeout_s=_PATIENCE_S) as is_ours:
            if not is_ours:
                raise Unavailable("Too many passcodes are compared at once")
            return self._known(name, digest) or self._compared(name, passcode, origin, digest)

    def _compared(self, name: str, passcode: str, origin: Origin, digest: bytes) -> User:
        found, keys = self._attempts.compared(name, passcode, origin)
        _require_no_second_factor(found)
        self._attempts.succeeded(keys)
        self._attempts.record(AuditKind.LOGIN, found.user.name, origin)
        with self._lock:
            self._proofs[digest] = _Proof(found.password_hash, time.monotonic() + _KEPT_S)
            while len(self._proofs) > _MOST_KEPT:
                self._proofs.popitem(last=False)
        return found.user

    def _known(self, name: str, digest: bytes) -> User | None:
        """Return the user of a passcode that was right before; None when it must be compared."""
        with self._lock:
            proof = self._proofs.get(digest)
        if proof is None:
            return None
        found = self._accounts.credentials(name)
        if found is None or found.user.is_disabled or found.user.has_second_factor:
            return None
        is_same = found.password_hash == proof.password_hash and time.monotonic() < proof.until
        return found.user if is_same else None


def _require_no_second_factor(found: UserCredentials) -> None:
    if found.user.has_second_factor:
        raise LoginRefused("This user has a second factor, which no device can give: make a user for the device")
