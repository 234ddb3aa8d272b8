"""Open the places of further copies that the settings name."""

from __future__ import annotations

import logging
from collections.abc import Callable

from backup_scp.errors import InvalidSettings
from backup_scp.machine.addresses import is_loopback
from backup_scp.node.remote_aes import local_ae, remote_at
from backup_scp.node.settings import CopySettings, Settings
from backup_scp.ports import CopyPlace, Index

log = logging.getLogger(__name__)

Factory = Callable[[Settings, CopySettings, Index], CopyPlace]
_told: set[str] = set()  # copies whose missing TLS is in the log


def _pacs(settings: Settings, copy: CopySettings, index: Index) -> CopyPlace:
    from backup_scp.dimse.scu.pacs_copy import PACSCopy

    remote = remote_at(settings, copy.url.removeprefix("dicom://").rstrip("/"))
    if copy.is_off_site and not remote.tls and not is_loopback(remote.host) and copy.name not in _told:
        _told.add(copy.name)
        log.warning(
            "Copy %s goes out without TLS: add a [[remote]] with its AE title, host and port, tls = true", copy.name
        )
    return PACSCopy(
        copy.name,
        local_ae(settings),
        remote,
        index,
        is_off_site=copy.is_off_site,
        answer_s=settings.commitment.answer_s,
    )


_PLACES: dict[str, Factory] = {"dicom": _pacs}
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
