"""Say which role a person of a provider has here, and under which name (OpenID Connect)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from backup_scp.errors import InvalidSelection
from backup_scp.ports import EVERY_SITE, Person, Role
from backup_scp.services.user_changes import good_name

_ORDER = list(Role)


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Who gets a role; whoever has none is not let in.

    Attributes
    ----------
    role
        The role.
    sites
        At which sites; empty for all.
    group
        For members of this group of the provider.
    email_domain
        For addresses of this domain that the provider has verified.
    """

    role: Role
    sites: tuple[str, ...] = ()
    group: str = ""
    email_domain: str = ""

    def fits(self, person: Person) -> bool:
        """Tell whether it is for this person."""
        name, _, domain = person.email.rpartition("@")
        is_of_domain = bool(self.email_domain and name) and domain == self.email_domain.lower()
        return is_of_domain or (bool(self.group) and self.group in person.groups)


def roles_of(person: Person, rules: Iterable[RoleRule]) -> dict[str, Role]:
    """Return the roles of a person: at each site the highest that a rule gives."""
    roles: dict[str, Role] = {}
    for rule in rules:
        for site in (rule.sites or (EVERY_SITE,)) if rule.fits(person) else ():
            roles[site] = max(roles.get(site, rule.role), rule.role, key=_ORDER.index)
    return roles


def name_of(person: Person) -> str:
    """Return the first name that a user can have here."""
    for name in (*person.names, person.identity.subject):
        with suppress(InvalidSelection):
            return good_name(name)
    return good_name(f"user {person.identity.subject[:40].encode('ascii', 'backslashreplace').decode()}"[:64])
