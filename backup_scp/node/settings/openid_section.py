"""``[web.openid_connect]``: a provider at which users log in, and who gets which role."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from backup_scp.machine.addresses import is_loopback
from backup_scp.ports import EVERY_SITE, site_fault

_ISSUER = re.compile(r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#@:\s\[\]]+)(:\d{1,5})?(/[^?#\s]*)?")
_SCOPE = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 3.3
_DOMAIN = re.compile(r"[^@\s/]+\.[^@\s/]+")


class OpenIDRole(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of ``roles``: who of the provider's users gets a role."""

    role: Literal["see", "restore", "share", "administer"]
    group: str = ""
    email_domain: str = ""
    sites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.group) == bool(self.email_domain):
            raise ValueError("each has either group or email_domain")
        if self.email_domain and not _DOMAIN.fullmatch(self.email_domain):
            raise ValueError('email_domain: write what stands behind the @, such as "clinic.example"')
        if self.role == "administer" and self.sites:
            raise ValueError("who administers sees every site: leave out sites, or choose another role")
        if fault := next(filter(None, (site_fault(site) for site in self.sites)), ""):
            raise ValueError(f"sites: {fault}")
        if EVERY_SITE in self.sites:
            raise ValueError("sites: leave it out for all sites")


class OpenIDSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[web.openid_connect]``: OpenID Connect."""

    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    label: str = "OpenID Connect"
    scopes: tuple[str, ...] = ("profile", "email")
    groups_claim: str = "groups"
    roles: tuple[OpenIDRole, ...] = ()
    passwords: bool = True
    ask_second_factor: bool = True
    second_factor_acr: tuple[str, ...] = ()
    ca: str = ""

    def __post_init__(self) -> None:
        if not self.issuer:
            if self.client_id or self.roles or not self.passwords:
                raise ValueError("name the provider in issuer")
            return
        found = _ISSUER.fullmatch(self.issuer)
        if not found or (found["scheme"] == "http" and not is_loopback(found["host"])):
            raise ValueError('issuer: write its address, such as "https://login.example/realms/clinic"')
        if not self.client_id:
            raise ValueError("client_id: the provider gives it, when this node is entered there")
        if not self.label.strip():
            raise ValueError("label: write what people call the provider")
        if not self.roles:
            raise ValueError("roles: without any, nobody is let in")
        if scope := next((scope for scope in self.scopes if not _SCOPE.fullmatch(scope)), None):
            raise ValueError(f"scopes: {scope!r} is none")

    @property
    def is_on(self) -> bool:
        """Whether users may log in at a provider."""
        return bool(self.issuer)
