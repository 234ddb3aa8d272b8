"""Call the provider: its discovery document, its keys, its token endpoint; none of its words go to the log."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from backup_scp.errors import ProviderRefused, ProviderUnavailable
from backup_scp.machine.addresses import is_loopback
from backup_scp.machine.https_call import Answer, CallFailed, call
from backup_scp.openid.client_registration import ClientRegistration

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 18
_DISCOVERY = "/.well-known/openid-configuration"
_KNOWN_ERRORS = {
    "invalid_client": "it does not know this node: check client_id and client_secret_file of [web.openid_connect]",
    "unauthorized_client": "this node may not ask so: allow it the Authorization Code flow there",
    "invalid_grant": "the login took too long, or its code was used before: begin again",
    "access_denied": "it refused, or the login was cancelled",
    "login_required": "it asks for a login there first",
    "interaction_required": "it asks for a login there first",
    "invalid_scope": "it does not know one of the scopes of [web.openid_connect]",
    "invalid_request": "it does not understand the request: is the redirect address entered there as it is?",
    "temporarily_unavailable": "it is busy: try again",
    "server_error": "it has a fault of its own: try again",
}


class Metadata(Struct, frozen=True):
    """What the provider says of itself (OpenID Connect Discovery 1.0, 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Tokens(Struct, frozen=True):
    """What the token endpoint answers."""

    id_token: str
    access_token: str = ""


_Kind = TypeVar("_Kind")


class ProviderCalls:
    """Calls the provider.

    Parameters
    ----------
    client
        Where it is, and who we are.
    """

    def __init__(self, client: ClientRegistration) -> None:
        self._client = client

    def metadata(self) -> tuple[Metadata, Answer]:
        """Fetch the discovery document, and check that it is the provider's own.

        Raises
        ------
        ProviderUnavailable
        """
        answer = self._asked(f"{self._client.issuer.rstrip('/')}{_DISCOVERY}", "its discovery document")
        found = self._decoded(answer, Metadata, "its discovery document")
        if found.issuer != self._client.issuer:
            raise ProviderUnavailable(
                f"{self._client.label}: it calls itself {_shown(found.issuer)}: write exactly this as issuer in "
                "[web.openid_connect], if it is the right one"
            )
        endpoints = found.authorization_endpoint, found.token_endpoint, found.jwks_uri
        for url in (*endpoints, *filter(None, [found.userinfo_endpoint, found.end_session_endpoint])):
            if not is_safe_url(url):
                raise ProviderUnavailable(f"{self._client.label}: it names an address without https: {_shown(url)}")
        return found, answer

    def keys(self, metadata: Metadata) -> dict[str, Any]:
        """Fetch the keys.

        Raises
        ------
        ProviderUnavailable
        """
        return self._decoded(self._asked(metadata.jwks_uri, "its keys"), dict[str, Any], "its keys")

    def tokens(self, metadata: Metadata, code: str, redirect_uri: str, verifier: str) -> Tokens:
        """Redeem a code (RFC 6749 4.1.3, RFC 7636 4.5).

        Raises
        ------
        ProviderUnavailable, ProviderRefused
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        client = self._client
        methods = metadata.token_endpoint_auth_methods_supported
        if client.secret and ("client_secret_basic" in methods or "client_secret_post" not in methods):
            login = f"{quote(client.client_id, safe='')}:{quote(client.secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        else:
            form |= {"client_id": client.client_id} | ({"client_secret": client.secret} if client.secret else {})
        answer = self._answer(metadata.token_endpoint, urlencode(form).encode(), headers)
        if answer.status != 200:
            raise ProviderRefused(self._sentence(answer))
        return self._decoded(answer, Tokens, "its answer to a login")

    def user_info(self, metadata: Metadata, access_token: str) -> dict[str, Any]:
        """Ask for claims that are not in the ID Token (OpenID Connect Core 1.0, 5.3).

        Raises
        ------
        ProviderUnavailable
        """
        bearer = {"Authorization": f"Bearer {access_token}"}
        answer = self._asked(metadata.userinfo_endpoint, "who you are", bearer)
        return self._decoded(answer, dict[str, Any], "who you are")

    def refusal(self, error: str) -> ProviderRefused:
        """Return what an error code of the provider means; text of its own is not shown (RFC 6749 4.1.2.1)."""
        return ProviderRefused(f"{self._client.label}: {_KNOWN_ERRORS.get(error, 'the login failed there')}")

    def _asked(self, url: str, what: str, headers: Mapping[str, str] | None = None) -> Answer:
        answer = self._answer(url, None, headers)
        if answer.status != 200:
            raise ProviderUnavailable(f"{self._client.label} does not tell {what}: it answers status {answer.status}")
        return answer

    def _answer(self, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        wanted = {"Accept": "application/json", **(headers or {})}
        try:
            return call(url, body, wanted, ca=self._client.ca, timeout_s=TIMEOUT_S, most_bytes=_MOST_BYTES)
        except CallFailed as error:
            host = urlsplit(url).hostname
            raise ProviderUnavailable(f"{self._client.label} does not answer at {host}: {error}") from None

    def _decoded(self, answer: Answer, kind: type[_Kind], what: str) -> _Kind:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise ProviderUnavailable(
                f"{self._client.label} does not tell {what} as OpenID Connect says: is issuer right?"
            ) from None

    def _sentence(self, answer: Answer) -> str:
        try:
            said = json.loads(answer.body)
            error = said.get("error", "") if isinstance(said, dict) else ""
        except (ValueError, RecursionError):
            error = ""
        return str(self.refusal(error if isinstance(error, str) else ""))


def is_safe_url(url: str) -> bool:
    """Tell whether nobody on the way can read or change what is asked there: HTTPS, or this computer."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def _shown(text: str) -> str:
    return "".join(character for character in text[:200] if character.isprintable())
