"""Who somebody is, as a provider of logins elsewhere says (OpenID Connect)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FederatedIdentity:
    """What a person is known by at a provider; an e-mail address may belong to somebody else tomorrow.

    Attributes
    ----------
    issuer
        The provider.
    subject
        The person, for this provider.
    """

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who has logged in at a provider.

    Attributes
    ----------
    identity
        What the person is known by.
    names
        What to call the person, the best first.
    email
        The address, in lower case, if the provider has verified it; else empty.
    groups
        The groups or roles there.
    used_second_factor
        Whether the provider says that it asked for more than a password.
    """

    identity: FederatedIdentity
    names: tuple[str, ...] = ()
    email: str = ""
    groups: frozenset[str] = frozenset()
    used_second_factor: bool = False


@dataclass(frozen=True, slots=True)
class ProviderLogin:
    """A login at a provider that has begun.

    Attributes
    ----------
    address
        Where the browser goes.
    state
        What the provider sends back with it.
    nonce
        What the ID Token must have.
    verifier
        What proves that the code is redeemed by who has begun (PKCE).
    redirect_uri
        Where the browser comes back to.
    """

    address: str
    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str = ""


class IdentityProvider(Protocol):
    """A provider of logins.

    Every method may raise ``ProviderUnavailable``, and may wait for another computer.
    """

    @property
    def label(self) -> str:
        """What people call it."""

    def begin(self, redirect_uri: str) -> ProviderLogin:
        """Begin a login."""

    def finish(self, begun: ProviderLogin, answer: Mapping[str, str]) -> Person:
        """Tell who has logged in.

        Parameters
        ----------
        answer
            The query that the browser came back with.

        Raises
        ------
        ProviderRefused
            The login failed there, or what the provider says cannot be trusted.
        """

    def bearer(self, token: str) -> Person:
        """Tell for whom the provider has signed a token that a device brings along.

        Raises
        ------
        ProviderRefused
            It is not from the provider, not for this node, or has expired.
        """

    def logout_address(self, return_to: str) -> str:
        """Return where a browser ends its session at the provider; empty when it has no such address."""

    def ended(self, logout_token: str) -> FederatedIdentity:
        """Tell whose session has ended, as a message from the provider says.

        Raises
        ------
        ProviderRefused
            The message is not from the provider.
        """
