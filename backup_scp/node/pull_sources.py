"""Open the PACS that images are fetched from: a remote AE, or a DICOMweb server."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from backup_scp.errors import InvalidSelection, InvalidSettings
from backup_scp.machine.addresses import console_addresses
from backup_scp.node.copy_places import dicomweb_access
from backup_scp.node.remote_aes import access_policy, find_remote, listening, local_ae
from backup_scp.node.settings import CopySettings, Settings
from backup_scp.ports import Index, PullSource, RemoteAE, ServiceKind, SiteScope
from backup_scp.services.ingest import Ingest
from backup_scp.watch.rejection_log import RejectionLog

_GRACE_S = 5.0
_DICOM, _DICOMWEB = "dicom://", "dicomweb+"


class Access(NamedTuple):
    """How we log in to a DICOMweb server; the values are those of the settings of a ``[[copy]]``."""

    user: str = ""
    password_file: str = ""
    token_file: str = ""
    ca: str = ""


@contextlib.contextmanager
def pull_source(
    settings: Settings, said: str, index: Index, ingest: Ingest, access: Access | None = None, site: str = ""
) -> Iterator[PullSource]:
    """Yield the PACS that a command line names, not yet entered.

    Parameters
    ----------
    said
        Name or AE title of a ``[[remote]]``, the name of a ``[[copy]]``, ``AETITLE@HOST:PORT``, also with ``dicom://``
        before it, or ``dicomweb+https://HOST/PATH``.
    ingest
        Stores what a C-MOVE brings, when no node runs.
    site
        Of ``brought_sites``: fetch this clinic's images as its own.

    Raises
    ------
    InvalidSelection
        It is none of these.
    InvalidSettings
        It cannot be reached with these settings; the text has a fix.
    """
    said, copy = _resolved(settings, said)
    is_apart = bool(brought_sites(settings, said))
    if said.startswith(_DICOMWEB):
        if copy is None or any(access or ()):
            copy = _unnamed(said, access or Access())
        yield _seeing_own(_dicomweb(settings, copy, site), is_apart=is_apart)
        return
    receiver = _Receiver(settings, index, ingest)
    try:
        yield _seeing_own(_remote_ae(settings, _remote(settings, said), receiver.start, site), is_apart=is_apart)
    finally:
        receiver.stop()


def _seeing_own(source: PullSource, *, is_apart: bool) -> PullSource:
    """Let only what the source's own site has here count as here, where a PACS keeps clinics apart."""
    if is_apart:
        source.here = SiteScope.of([source.site])
    return source


def brought_sites(settings: Settings, said: str) -> tuple[str, ...]:
    """Return the clinics that a PACS keeps apart for this node, another backup-scp: ``brings_sites`` of it.

    Raises
    ------
    InvalidSelection
        It is no PACS.
    """
    said, copy = _resolved(settings, said)
    if said.startswith(_DICOMWEB):
        return copy.brings_sites if copy is not None else ()
    return _remote(settings, said).brings_sites


def _resolved(settings: Settings, said: str) -> tuple[str, CopySettings | None]:
    """Return what to open, and the ``[[copy]]`` that has this name or url."""
    copy = next((one for one in settings.copy if said.rstrip("/") in (one.name, one.url.rstrip("/"))), None)
    if copy is not None and copy.url.startswith((_DICOM, _DICOMWEB)) and find_remote(settings, said) is None:
        said = copy.url
    return said, copy


def _unnamed(url: str, access: Access) -> CopySettings:
    try:
        return CopySettings("pull", url, **access._asdict())
    except ValueError as error:
        raise InvalidSelection(str(error)) from None


def _dicomweb(settings: Settings, copy: CopySettings, site: str) -> PullSource:
    access = dicomweb_access(settings, copy, copy.url)
    from backup_scp.copies.dicomweb.dicomweb_source import DICOMwebSource

    return DICOMwebSource(access.base_url, access.login, access.ca, access.timeouts_s, site)


def _remote(settings: Settings, said: str) -> RemoteAE:
    """Return the remote AE, as the settings have it when they have its AE title, host and port: perhaps with TLS."""
    found = find_remote(settings, said.removeprefix(_DICOM).rstrip("/"))
    if found is None:
        known = ", ".join(remote.name for remote in settings.remotes) or "none is configured"
        raise InvalidSelection(
            f"{said} is no remote AE ({known}); write AETITLE@HOST:PORT, or dicomweb+https://HOST/PATH"
        )
    if found in settings.remotes:
        return found
    where = (found.ae_title, found.host.lower(), found.port)
    same = (remote for remote in settings.remotes if (remote.ae_title, remote.host.lower(), remote.port) == where)
    return next(same, dataclasses.replace(found, name=found.ae_title))


def _remote_ae(settings: Settings, remote: RemoteAE, listen: Callable[[], None], site: str) -> PullSource:
    from backup_scp.dimse.scu.remote_ae_source import RemoteAESource

    node = settings.node
    host = next(iter(console_addresses(node.host)), node.host)
    port = node.port if node.plain else settings.tls.port
    local = dataclasses.replace(local_ae(settings), as_site=site)
    remote = dataclasses.replace(remote, site=site or remote.site)
    return RemoteAESource(local, remote, f"AE title {node.ae_title}, host {host}, port {port}", listen)


class _Receiver:
    """Receives images for a C-MOVE, when no node runs; the running node has the port, and receives them itself."""

    def __init__(self, settings: Settings, index: Index, ingest: Ingest) -> None:
        self._settings = settings
        self._index = index
        self._ingest = ingest
        self._open = ExitStack()
        self._is_started = False

    def start(self) -> None:
        """Listen; do nothing when it listens already."""
        if self._is_started:
            return
        self._is_started = True
        from backup_scp.dimse.association.negotiation import is_storage
        from backup_scp.dimse.association.request_dispatch import Service
        from backup_scp.dimse.association.server import Server
        from backup_scp.dimse.messages.command_set import Field
        from backup_scp.dimse.scp.storage_scp import StorageSCP
        from backup_scp.services.permissions import Right

        store = Service(is_storage, StorageSCP(self._ingest).serve, Right.STORE, kind=ServiceKind.STORE)
        rejections = RejectionLog(self._index)
        settings, services = self._settings, {int(Field.C_STORE_RQ): store}
        server = Server(listening(settings), access_policy(settings), services, rejections)
        rejections.start()
        self._open.callback(rejections.stop)
        with contextlib.suppress(InvalidSettings):
            server.start()
            self._open.callback(server.stop, _GRACE_S)

    def stop(self) -> None:
        """Stop listening."""
        self._open.close()
