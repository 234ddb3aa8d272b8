"""The Authorization Code flow with PKCE at one provider (OpenID Connect Core 1.0 3.1, RFC 7636, RFC 9207)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from backup_scp.errors import ProviderRefused, ProviderUnavailable
from backup_scp.openid.client_registration import ClientRegistration
from backup_scp.openid.key_cache import KeyCache
from backup_scp.openid.provider_calls import Metadata, ProviderCalls
from backup_scp.openid.token_checks import TokenChecks
from backup_scp.ports import FederatedIdentity, Person, ProviderLogin
from backup_scp.services.secret_tokens import new_token

_METADATA_KEPT_S = 3600.0
_FAILURE_KEPT_S = 2.0
_LONGEST_SUBJECT = 255  # OpenID Connect Core 1.0, 2
_MOST_GROUPS = 1000
_MOST_PARAMETERS = 4096  # characters of a code
_NAMES = ("preferred_username", "email", "name")


class OpenIDProvider:
    """Implements ``ports.IdentityProvider``; safe to share between threads.

    Parameters
    ----------
    client
        The provider, and this node's registration there.
    seconds
        The clock for what is kept.
    """

    def __init__(self, client: ClientRegistration, seconds: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._calls = ProviderCalls(client)
        self._seconds = seconds
        self._kept: tuple[Metadata, float] | None = None
        self._failure: tuple[str, float] | None = None
        self._lock = threading.Lock()
        keys = KeyCache(lambda: self._calls.keys(self._metadata()), seconds)
        self._checks = TokenChecks(client.issuer, client.client_id, keys.key)

    @property
    def label(self) -> str:
        return self._client.label

    def begin(self, redirect_uri: str) -> ProviderLogin:
        endpoint = self._metadata().authorization_endpoint
        state, nonce, verifier = new_token(), new_token(), new_token()
        asked = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *self._client.scopes))),
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        return ProviderLogin(_with_query(endpoint, asked), state, nonce, verifier, redirect_uri)

    def finish(self, begun: ProviderLogin, answer: Mapping[str, str]) -> Person:
        metadata = self._metadata()
        self._require_sender(metadata, answer)
        if not hmac.compare_digest(answer.get("state", "").encode(), begun.state.encode()):
            raise ProviderRefused("This answer belongs to another login: begin again")
        if error := answer.get("error", ""):
            raise self._calls.refusal(error)
        code = answer.get("code", "")
        if not code or len(code) > _MOST_PARAMETERS:
            raise ProviderRefused(f"{self.label} sent no code: begin again")
        tokens = self._calls.tokens(metadata, code, begun.redirect_uri, begun.verifier)
        claims = self._checks.id_token(tokens.id_token, begun.nonce)
        return self._person(self._with_user_info(claims, metadata, tokens.access_token))

    def _require_sender(self, metadata: Metadata, answer: Mapping[str, str]) -> None:
        """Refuse the answer of another provider (RFC 9207 2.4)."""
        sender = answer.get("iss")
        is_missing = sender is None and metadata.authorization_response_iss_parameter_supported
        if is_missing or (sender is not None and sender != self._client.issuer):
            raise ProviderRefused("This answer comes from another provider: begin again")

    def _with_user_info(self, claims: dict[str, Any], metadata: Metadata, access_token: str) -> dict[str, Any]:
        """Add claims that the ID Token lacks: providers that keep to the letter send them at another address alone."""
        is_whole = _found(claims, self._client.groups_claim) is not None and claims.keys() >= {"email", _NAMES[0]}
        if is_whole or not metadata.userinfo_endpoint or not access_token:
            return claims
        more = self._calls.user_info(metadata, access_token)
        if more.get("sub") != claims["sub"]:
            raise ProviderRefused(f"{self.label} tells of another user than the one who logged in")
        return more | claims

    def _person(self, claims: dict[str, Any]) -> Person:
        subject = claims["sub"]
        if not 0 < len(subject) <= _LONGEST_SUBJECT:
            raise ProviderRefused("The token names nobody")
        email = claims.get("email")
        is_verified = claims.get("email_verified") is True and isinstance(email, str)
        names = (claims.get(name) for name in _NAMES)
        methods, context = claims.get("amr"), claims.get("acr")
        return Person(
            FederatedIdentity(self._client.issuer, subject),
            tuple(name for name in names if isinstance(name, str) and name),
            str(email).lower() if is_verified else "",
            _texts(_found(claims, self._client.groups_claim)),
            (isinstance(methods, list) and "mfa" in methods)
            or (isinstance(context, str) and context in self._client.second_factor_acr),
        )

    def bearer(self, token: str) -> Person:
        return self._person(self._checks.bearer_token(token))

    def logout_address(self, return_to: str) -> str:
        endpoint = self._metadata().end_session_endpoint
        asked = {"client_id": self._client.client_id, "post_logout_redirect_uri": return_to}
        return _with_query(endpoint, asked) if endpoint else ""

    def ended(self, logout_token: str) -> FederatedIdentity:
        return FederatedIdentity(self._client.issuer, self._checks.logout_token(logout_token)["sub"])

    def _metadata(self) -> Metadata:
        with self._lock:
            if self._kept is None or self._seconds() - self._kept[1] > _METADATA_KEPT_S:
                self._kept = self._renewed(), self._seconds()
            return self._kept[0]

    def _renewed(self) -> Metadata:
        """Fetch the metadata; whoever waits meanwhile for a provider that is off does not wait again."""
        if self._failure is not None and self._seconds() - self._failure[1] < _FAILURE_KEPT_S:
            raise ProviderUnavailable(self._failure[0])
        try:
            return self._calls.metadata()[0]
        except ProviderUnavailable as error:
            self._failure = str(error), self._seconds()
            raise


def _challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _with_query(address: str, values: Mapping[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(values)}"


def _found(claims: dict[str, Any], path: str) -> Any:
    """Find a claim by its name, or by a path with dots."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _texts(value: Any) -> frozenset[str]:
    listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(each for each in listed[:_MOST_GROUPS] if isinstance(each, str))
