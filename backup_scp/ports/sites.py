"""Which sites' images somebody may see: a site is a clinic, and clinics know nothing of each other (docs/adr/0063)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

EVERY_SITE = "*"
"""Instead of a site's name: all sites, also later ones."""

_NONE = "\n"  # no site has this name
_BETWEEN = "\\"  # no site has it in its name


@dataclass(frozen=True, slots=True)
class SiteScope:
    """The sites that a caller may see.

    Attributes
    ----------
    sites
        Their names; the empty name is for images of a sender without a site.  None is all sites.
    """

    sites: frozenset[str] | None

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """Return the scope of these names; ``*`` among them is all sites."""
        sites = frozenset(names)
        return cls(None if EVERY_SITE in sites else sites)

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the scope that ``str`` has written."""
        if not text:
            return cls(None)
        return cls(frozenset() if text == _NONE else frozenset(text.split(_BETWEEN)))

    def __str__(self) -> str:
        """Write it for a column or a key; all sites are the empty text, and one site is its name."""
        if self.sites is None:
            return ""
        if self.sites == {""}:
            return _BETWEEN
        return _BETWEEN.join(sorted(self.sites)) if self.sites else _NONE

    def __and__(self, other: SiteScope) -> SiteScope:
        """Return the scope of what both may see."""
        if self.sites is None:
            return other
        return self if other.sites is None else SiteScope(self.sites & other.sites)

    @property
    def is_all(self) -> bool:
        """Whether it is all sites."""
        return self.sites is None

    def holds(self, site: str) -> bool:
        """Tell whether it has this site."""
        return self.sites is None or site in self.sites

    def covers(self, other: SiteScope) -> bool:
        """Tell whether it has every site of another scope."""
        return self.sites is None or (other.sites is not None and other.sites <= self.sites)

    def meets(self, other: SiteScope) -> bool:
        """Tell whether both have a site."""
        return (self & other).sites != frozenset()


SEES_ALL = SiteScope(None)
SEES_NOTHING = SiteScope(frozenset())


def site_fault(name: str) -> str:
    """Return why a text cannot be the name of a site; empty when it can."""
    if name == EVERY_SITE or _BETWEEN in name or not (name.isprintable() and name == name.strip()):
        return "the name of a site is printable text without a backslash, and not *"
    return ""
