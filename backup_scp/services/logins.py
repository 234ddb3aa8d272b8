"""Log users in and out: password, code, passkey, session (docs/adr/0062, 0066)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from backup_scp.machine import clock
from backup_scp.ports import Accounts, AuditKind, Session, User, UserCredentials
from backup_scp.services import one_time_codes, passwords
from backup_scp.services.login_attempts import LoginAttempts, LoginRefused, Origin, TooManyAttempts
from backup_scp.services.passkey_signatures import PasskeyCopied, PasskeySignatures
from backup_scp.services.passkeys import PasskeySite
from backup_scp.services.secret_tokens import digest_of, new_token

CODE_WITHIN = timedelta(minutes=5)
"""How long the code may take after the password."""

_TOUCH_EVERY = timedelta(minutes=1)
_LONGEST_AGENT = 200

__all__ = ["CODE_WITHIN", "LoggedIn", "LoginRefused", "Logins", "Origin", "SessionTimes", "TooManyAttempts"]


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A user with its session.

    Attributes
    ----------
    user, session
        Both.
    token
        The session's token; only after a login.
    """

    user: User
    session: Session
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """How long a session lasts: without a request, and in all."""

    idle: timedelta = timedelta(minutes=60)
    longest: timedelta = timedelta(hours=12)


class Logins:
    """Logs users in.

    Parameters
    ----------
    accounts
        The users.
    times
        How long a session lasts.
    needs_second_factor
        Whether everybody needs a code or a passkey beside the password.
    takes_passwords
        Whether a password or passkey opens a session; else only a link does, and a login at the provider.

    Attributes
    ----------
    accounts
        The same.
    passkeys
        Tells whose passkey has signed.
    """

    def __init__(
        self,
        accounts: Accounts,
        times: SessionTimes | None = None,
        *,
        needs_second_factor: bool = False,
        takes_passwords: bool = True,
    ) -> None:
        self.accounts = accounts
        self.passkeys = PasskeySignatures(accounts)
        self.needs_second_factor = needs_second_factor
        self.takes_passwords = takes_passwords
        self._times = times or SessionTimes()
        self._has_users = False
        self._attempts = LoginAttempts(accounts)

    def log_in(self, name: str, password: str, origin: Origin, *, instead_of: str = "") -> LoggedIn:
        """Compare name and password, and begin a session; it is not complete when a code is needed.

        The work is the same for a name that nobody has.

        Parameters
        ----------
        name, password
            As typed.
        origin
            Where the call comes from.
        instead_of
            The token of a session that ends.

        Raises
        ------
        LoginRefused, TooManyAttempts, AccountsUnavailable
        """
        self._require_own_logins()
        known, keys = self._attempts.compared(name, password, origin)
        is_enough = not known.user.has_second_factor
        if is_enough:
            self._attempts.succeeded(keys)
        return self.begin_session(known, origin, instead_of=instead_of, is_complete=is_enough)

    def confirm(self, token: str, code: str, origin: Origin) -> LoggedIn:
        """Compare the code of an app, or a recovery code, and begin the session.

        Raises
        ------
        LoginRefused, TooManyAttempts, AccountsUnavailable
        """
        return self._confirm(token, origin, lambda known: self._is_right_code(known, code, origin))

    def confirm_with_passkey(self, token: str, answer: str, site: PasskeySite, origin: Origin) -> LoggedIn:
        """Compare what a passkey signed after the password, and begin the session.

        Raises
        ------
        LoginRefused, TooManyAttempts, AccountsUnavailable
        """

        def is_right(known: UserCredentials) -> bool:
            signer = self._signer(answer, site, digest_of(token), origin, is_verified=False)
            return signer is not None and signer.user.id == known.user.id

        return self._confirm(token, origin, is_right)

    def _confirm(self, token: str, origin: Origin, is_right: Callable[[UserCredentials], bool]) -> LoggedIn:
        half = self._found(token)
        known = self.accounts.credentials_of(half.user.id) if half else None
        if half is None or known is None or half.session.is_complete or not known.user.has_second_factor:
            raise LoginRefused("The login took too long: begin again")
        keys = self._attempts.begin(half.user.name, origin)
        if not is_right(known):
            raise self._attempts.refused(half.user.name, origin)
        self._attempts.succeeded(keys)
        return self.begin_session(known, origin, instead_of=token)

    def second_step(self, token: str, site: PasskeySite | None) -> dict[str, Any] | None:
        """Return what a browser needs to sign with a passkey after the password; None when the user has none here."""
        half = self._found(token)
        if half is None or half.session.is_complete or site is None:
            return None
        return self.passkeys.second_step(half.user.id, site, half.session.digest)

    def log_in_with_passkey(
        self, answer: str, site: PasskeySite, browser: str, origin: Origin, *, instead_of: str = ""
    ) -> LoggedIn:
        """Compare what a passkey signed without a password, and begin a session: the device must know its user.

        Parameters
        ----------
        answer
            Of the browser.
        site, browser
            Where the login was shown, and what it is bound to there.
        origin, instead_of
            As for ``log_in``.

        Raises
        ------
        LoginRefused, TooManyAttempts, AccountsUnavailable
        """
        self._require_own_logins()
        keys = self._attempts.begin_unnamed(origin)
        known = self._signer(answer, site, browser, origin, is_verified=True)
        if known is None or known.user.is_disabled:
            raise self._attempts.refused(known.user.name if known else "a passkey", origin)
        self._attempts.succeeded(keys)
        return self.begin_session(known, origin, instead_of=instead_of)

    def _require_own_logins(self) -> None:
        if not self.takes_passwords:
            raise LoginRefused("Passwords are switched off here: log in at the provider")

    def _signer(
        self, answer: str, site: PasskeySite, bound_to: str, origin: Origin, *, is_verified: bool
    ) -> UserCredentials | None:
        try:
            user_id = self.passkeys.signer(answer, site, bound_to, is_verified=is_verified)
        except PasskeyCopied as error:
            known = self.accounts.credentials_of(error.user_id)
            self.record(AuditKind.PASSKEY_COPIED, known.user.name if known else "", origin)
            raise LoginRefused(str(error)) from None
        return self.accounts.credentials_of(user_id) if user_id is not None else None

    def lacks_second_factor(self, logged_in: LoggedIn) -> bool:
        """Tell whether a user must set up a second factor before anything else.

        Without a password it came through the provider, which was asked for that (``ProviderLogins``).
        """
        user = logged_in.user
        return self.needs_second_factor and user.has_password and not user.has_second_factor

    def _is_right_code(self, known: UserCredentials, code: str, origin: Origin) -> bool:
        step = one_time_codes.step_of(known.code_secret, code, clock.now()) if known.code_secret else None
        if step is not None:
            return self.accounts.use_step(known.user.id, step)
        if self.accounts.use_recovery_code(known.user.id, one_time_codes.recovery_digest(code)):
            self.record(AuditKind.RECOVERY_CODE_USED, known.user.name, origin)
            return True
        return False

    def begin_session(
        self, known: UserCredentials, origin: Origin, *, instead_of: str = "", is_complete: bool = True
    ) -> LoggedIn:
        """Begin a session with a token that nobody has seen."""
        token, now = new_token(), clock.now()
        agent = origin.agent[:_LONGEST_AGENT]
        session = Session(digest_of(token), known.user.id, now, now, origin.address, agent, is_complete=is_complete)
        self.accounts.forget_sessions(now - self._times.longest, now - max(self._times.idle, CODE_WITHIN))
        self.accounts.begin_session(session, instead_of=digest_of(instead_of) if instead_of else "")
        if is_complete:
            self.record(AuditKind.LOGIN, known.user.name, origin)
        return LoggedIn(known.user, session, token)

    def logged_in(self, token: str) -> LoggedIn | None:
        """Find the user of a session that lasts; note that a request came."""
        found = self._found(token)
        if found is None or not found.session.is_complete:
            return None
        now = clock.now()
        if abs(now - found.session.seen_at) > _TOUCH_EVERY:
            self.accounts.touch_session(found.session.digest, now)
        return found

    def lasts(self, logged_in: LoggedIn) -> bool:
        """Tell whether a session lasts, without prolonging it."""
        found = self.accounts.session(logged_in.session.digest)
        return found is not None and self._is_valid(found[0])

    def waits_for_code(self, token: str) -> bool:
        """Tell whether a login waits for its code."""
        found = self._found(token)
        return found is not None and not found.session.is_complete

    def _found(self, token: str) -> LoggedIn | None:
        found = self.accounts.session(digest_of(token)) if token else None
        if found is None:
            return None
        session, user = found
        return LoggedIn(user, session) if self._is_valid(session) else None

    def _is_valid(self, session: Session) -> bool:
        now = clock.now()
        is_idle = now - session.seen_at > self._times.idle or clock.is_future(session.seen_at)
        return not is_idle and now - session.began_at <= (self._times.longest if session.is_complete else CODE_WITHIN)

    def has_users(self) -> bool:
        """Tell whether there is any user; one that was there once counts."""
        self._has_users = self._has_users or self.accounts.has_users()
        return self._has_users

    def require_password(self, logged_in: LoggedIn, password: str, origin: Origin) -> None:
        """Raise when a user who is logged in does not know the own password: an open screen is not enough.

        Raises
        ------
        LoginRefused, TooManyAttempts
        """
        name = logged_in.user.name
        keys = self._attempts.begin(name, origin)
        known = self.accounts.credentials_of(logged_in.user.id)
        if known is None or not passwords.is_right(known.password_hash, password):
            raise self._attempts.refused(name, origin)
        self._attempts.succeeded(keys)

    def log_out(self, logged_in: LoggedIn, origin: Origin) -> None:
        """End a session."""
        self.accounts.end_session(logged_in.session.digest)
        self.record(AuditKind.LOGOUT, logged_in.user.name, origin)

    def log_out_everywhere(self, logged_in: LoggedIn, origin: Origin) -> None:
        """End all sessions of a user but this one."""
        self.accounts.end_sessions(logged_in.user.id, but=logged_in.session.digest)
        self.record(AuditKind.LOGOUT_EVERYWHERE, logged_in.user.name, origin)

    def record(self, kind: AuditKind, who: str, origin: Origin, about: str = "") -> None:
        """Add a line to the audit."""
        self._attempts.record(kind, who, origin, about)
