"""Open the places of further copies that the settings name."""

from __future__ import annotations

from collections.abc import Callable

from backup_scp.errors import InvalidSettings
from backup_scp.node.settings import CopySettings, Settings
from backup_scp.ports import CopyPlace, Index

Factory = Callable[[Settings, CopySettings, Index], CopyPlace]

_PLACES: dict[str, Factory] = {}
"""The places by the scheme of their URL; each factory imports its libraries when it is called."""


def open_place(settings: Settings, copy: CopySettings, index: Index) -> CopyPlace:
    """Return the place of a ``[[copy]]``; it is not reached before it is entered.

    Parameters
    ----------
    index
        Another PACS is asked for commitments, which the index records, and takes the version that answers.

    Raises
    ------
    InvalidSettings
        The URL cannot be used, or a library is missing; the text says which, and how to install it.
    """
    scheme = copy.url.partition(":")[0].partition("+")[0]
    if scheme not in _PLACES:
        raise InvalidSettings(f"[[copy]] {copy.name}, url: this version does not know {scheme}")
    return _PLACES[scheme](settings, copy, index)
