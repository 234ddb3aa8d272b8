"""Check an ID Token, and a message that a session has ended: signature and claims (OpenID Connect Core 1.0 3.1.3.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError

from backup_scp.errors import ProviderRefused
from backup_scp.machine import clock
from backup_scp.openid.key_cache import PublicKey

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""What we accept: signatures by a key that only the provider has; never ``none``, nor a secret that is shared."""

LEEWAY_S = 60
_EVENT = "http://schemas.openid.net/event/backchannel-logout"  # a name, not an address
_IN_WORDS = {
    "iss": "it is of another provider",
    "aud": "it is for another program than client_id names",
    "azp": "it is for another program than client_id names",
    "nonce": "it belongs to another login",
    "iat": "it is from the future: compare the clocks of this computer and of the provider",
    "exp": "it has expired: compare the clocks of this computer and of the provider",
    "nbf": "it is from the future: compare the clocks of this computer and of the provider",
}


class TokenChecks:
    """Checks what the provider has signed.

    Parameters
    ----------
    issuer, client_id
        Whose, and for whom.
    key
        Finds a key of the provider by its name.
    """

    def __init__(self, issuer: str, client_id: str, key: Callable[[str], PublicKey]) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._key = key
        self._registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)

    def id_token(self, token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID Token.

        Raises
        ------
        ProviderRefused, ProviderUnavailable
        """
        claims = self._signed(token, "The ID Token")
        self._require(claims, "The ID Token", nonce={"essential": True, "value": nonce})
        audience, party = claims["aud"], claims.get("azp")
        is_for_others = isinstance(audience, list) and len(audience) > 1
        if (party is not None or is_for_others) and party != self._client_id:
            raise _refused("The ID Token", "azp")
        return claims

    def bearer_token(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that a device brings along: an ID Token, or an access token (RFC 9068).

        Raises
        ------
        ProviderRefused, ProviderUnavailable
        """
        what = "The token"
        claims = self._signed(token, what)
        self._require(claims, what)
        if "events" in claims:  # RFC 8725 3.12: a message of a logout is no login
            raise ProviderRefused(f"{what} is none of a user")
        return claims

    def logout_token(self, token: str) -> dict[str, Any]:
        """Return the claims of a message that a session has ended (OpenID Connect Back-Channel Logout 1.0, 2.6).

        Raises
        ------
        ProviderRefused, ProviderUnavailable
        """
        what = "The message of a logout"
        claims = self._signed(token, what)
        self._require(claims, what, jti={"essential": True})
        events = claims.get("events")
        if "nonce" in claims or not isinstance(events, dict) or _EVENT not in events:
            raise ProviderRefused(f"{what} is none")
        return claims

    def _signed(self, token: str, what: str) -> dict[str, Any]:
        try:
            header = jws.extract_compact(token.encode("ascii"), registry=self._registry).headers()
            if header.get("alg") not in ALGORITHMS:
                raise ProviderRefused(f"{what} is signed in a way that proves nothing")
            kid = header.get("kid", "")
            return jwt.decode(token, self._key(kid if isinstance(kid, str) else ""), registry=self._registry).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            raise ProviderRefused(f"{what} is not signed by the provider") from None

    def _require(self, claims: dict[str, Any], what: str, **more: jwt.ClaimsOption) -> None:
        expected = jwt.JWTClaimsRegistry(
            int(clock.now().timestamp()),
            LEEWAY_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            iat={"essential": True},
            exp={"essential": True},
            sub={"essential": True},
            **more,
        )
        try:
            expected.validate(claims)
        except ExpiredTokenError:
            raise _refused(what, "exp") from None
        except MissingClaimError:
            raise ProviderRefused(f"{what} lacks what OpenID Connect asks for") from None
        except InvalidClaimError as error:
            raise _refused(what, error.claim) from None


def _refused(what: str, claim: str) -> ProviderRefused:
    return ProviderRefused(f"{what} is not good: {_IN_WORDS.get(claim, f'its {claim[:20]} is wrong')}")
