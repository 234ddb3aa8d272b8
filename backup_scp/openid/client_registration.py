"""What the settings say of the provider, and what is registered there for this node."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ClientRegistration:
    """What the provider knows this node by.

    Attributes
    ----------
    issuer
        The provider.
    client_id, secret
        The node's own login there; a public client has no secret.
    label
        What people call the provider.
    scopes
        What to ask for, besides ``openid``.
    groups_claim
        The claim with groups or roles; dots lead into it.
    second_factor_acr
        Values of ``acr`` that mean a second factor, besides ``mfa`` in ``amr``.
    ca
        File of the CA of its certificate; None for those that this computer trusts.
    """

    issuer: str
    client_id: str
    secret: str = field(default="", repr=False)
    label: str = "OpenID Connect"
    scopes: tuple[str, ...] = ("profile", "email")
    groups_claim: str = "groups"
    second_factor_acr: tuple[str, ...] = ()
    ca: Path | None = None
