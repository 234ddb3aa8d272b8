"""Connect to other Application Entities and folders as configured in the settings."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from backup_scp.errors import InvalidSelection, InvalidSettings
from backup_scp.machine.networks import network_of
from backup_scp.machine.renewed_context import RenewedContext
from backup_scp.node.identity_setup import identification
from backup_scp.node.settings import Settings
from backup_scp.ports import Index, Inventory, Reference, RemoteAE, RestoreDestination
from backup_scp.services.permissions import Right, remote_may

if TYPE_CHECKING:
    from backup_scp.dimse.association.access import AccessPolicy
    from backup_scp.dimse.association.association import LocalAE, Timing
    from backup_scp.dimse.association.listener import ListenSettings
    from backup_scp.dimse.association.request_dispatch import Service
    from backup_scp.services.restore_journal import RestoreJournal
    from backup_scp.services.restore_result import RequestCommitment

_ADDRESS = re.compile(r"(?P<ae_title>[^@]{1,16})@(?P<host>.+):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT = 65535
_LONGEST_NAME = 64  # characters of a file name
_WORKER_GRACE_S = 5.0  # unfinished work continues after the next start


def find_remote(settings: Settings, said: str) -> RemoteAE | None:
    """Find a remote AE by its name or AE title in the settings, or by ``AETITLE@HOST:PORT``.

    Raises
    ------
    InvalidSelection
        Several have this AE title.
    """
    remote = settings.find_remote(said)
    if remote is not None or not (found := _ADDRESS.fullmatch(said)) or int(found["port"]) > _HIGHEST_PORT:
        return remote
    return RemoteAE(said, found["ae_title"].strip(), found["host"].strip("[]"), int(found["port"]))


def remote_at(settings: Settings, address: str) -> RemoteAE:
    """Return the ``[[remote]]`` with AE title, host and port of ``AETITLE@HOST:PORT``; without one, one without TLS.

    Raises
    ------
    InvalidSettings
        It is no such address, or the settings do not allow sending to it.
    """
    found = _ADDRESS.fullmatch(address)
    if not found or not 0 < int(found["port"]) <= _HIGHEST_PORT:
        raise InvalidSettings(f"{address} is not AE_TITLE@HOST:PORT")
    said = RemoteAE(address, found["ae_title"].strip(), found["host"].strip("[]"), int(found["port"]))
    where = (said.ae_title, said.host.lower(), said.port)
    remote = next((r for r in settings.remotes if (r.ae_title, r.host.lower(), r.port) == where), said)
    if not remote_may(remote, Right.RECEIVE):
        raise InvalidSettings(f"[[remote]] {remote.name} has destination = false: nothing is sent to it")
    return remote


def destination(settings: Settings, to: str) -> RestoreDestination:
    """Return the destination of ``restore --to``.

    It is a remote AE, see ``find_remote``; otherwise an existing folder, or a path with a separator (``./folder``),
    whose last folder is created.

    Raises
    ------
    InvalidSelection
        It is neither, the settings do not allow sending to the remote AE, or the folder is one of the node's own.
    """
    remote = find_remote(settings, to)
    if remote is not None:
        return _remote_destination(settings, remote)
    folder = Path(to).expanduser()
    if folder.is_dir() or "/" in to or "\\" in to:
        from backup_scp.copies.directory import DirectoryDestination

        refuse_our_own(settings, folder.resolve())
        return DirectoryDestination(folder.absolute())
    known = ", ".join(r.name for r in settings.remotes) or "none is configured"
    raise InvalidSelection(
        f"{to} is no remote AE ({known}; or write AETITLE@HOST:PORT) and no folder: for a new folder write ./{to}"
    )


def refuse_our_own(settings: Settings, folder: Path) -> None:
    """Raise for a folder of the node's own: files in the archive would count as the archive's.

    Raises
    ------
    InvalidSelection
    """
    for ours in (settings.home.resolve(), settings.archive_path.resolve()):
        if folder.is_relative_to(ours):
            raise InvalidSelection(f"{folder} is in {ours}, where the node keeps its own data: choose another folder")


def _remote_destination(settings: Settings, remote: RemoteAE) -> RestoreDestination:
    from backup_scp.dimse.scu.remote_ae_destination import RemoteAEDestination

    if not remote_may(remote, Right.RECEIVE):
        raise InvalidSelection(f"{remote.name} has destination = false in the settings: nothing is sent to it")
    return RemoteAEDestination(local_ae(settings), remote)


@contextlib.contextmanager
def inventory(settings: Settings, to: str, journal: RestoreJournal | None) -> Iterator[Inventory | None]:
    """Yield an inventory of a remote AE, None for a folder.

    When the journal has confirmations, it is connected, and those of another implementation and expired ones are
    dropped.
    """
    remote = find_remote(settings, to)
    if remote is None or journal is None:
        yield None
        return
    from backup_scp.dimse.scu.sites_apart import CounterOfSites

    counter = CounterOfSites(local_ae(settings), remote)
    try:
        if not journal.is_empty():
            counter.connect()
            journal.drop(counter.implementation)
        yield counter
    finally:
        counter.disconnect()


@contextlib.contextmanager
def committer(settings: Settings, to: str, index: Index) -> Iterator[RequestCommitment]:
    """Yield a function that asks a remote AE to commit instances; it receives the report when no node runs.

    Raises
    ------
    InvalidSelection
        ``to`` is a folder.
    """
    from backup_scp.dimse.scu.sites_apart import ae_for
    from backup_scp.dimse.scu.storage_commitment_scu import StorageCommitmentSCU

    remote = find_remote(settings, to)
    if remote is None:
        raise InvalidSelection("--commit is for a remote AE: the files of a folder can be checked directly")
    local, wait_s = local_ae(settings), settings.commitment.answer_s

    def commit(references: Sequence[Reference], site: str) -> Mapping[Reference, int]:
        return StorageCommitmentSCU(ae_for(local, remote, site), remote, index.commitments).commit(references, wait_s)

    with receives_reports(settings, index):
        yield commit


@contextlib.contextmanager
def receives_reports(settings: Settings, index: Index) -> Iterator[None]:
    """Receive Storage Commitment reports in the block, when no node runs: a command needs them as much."""
    from backup_scp.dimse.association.server import Server
    from backup_scp.dimse.messages.command_set import Field
    from backup_scp.dimse.scp.service_table import reports_service
    from backup_scp.watch.rejection_log import RejectionLog

    services: dict[int, Service] = {Field.N_EVENT_REPORT_RQ: reports_service(index)}
    rejections = RejectionLog(index)
    with ExitStack() as stack:
        users = identification(settings, stack)
        server = Server(listening(settings), access_policy(settings), services, rejections, identification=users)
        rejections.start()
        stack.callback(rejections.stop)
        with contextlib.suppress(InvalidSettings):  # the running node has the port, and receives the reports
            server.start()
            stack.callback(server.stop, _WORKER_GRACE_S)
        yield


def journal(settings: Settings, to: str) -> RestoreJournal | None:
    """Open the journal of a remote AE's confirmations; None for a folder, whose files can be compared.

    A remote AE that moves to another host or port gets a new journal.
    """
    from backup_scp.services.restore_journal import RestoreJournal

    remote = find_remote(settings, to)
    if remote is None:
        return None
    identity = f"{remote.name}\n{remote.ae_title}\n{remote.host}\n{remote.port}"
    name = re.sub(r"[^A-Za-z0-9-]", "_", remote.name)[:_LONGEST_NAME]
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return RestoreJournal(settings.home / "restores" / f"{name}.{digest}.sqlite")


def echo(settings: Settings, ae_title: str, host: str, port: int, *, tls: bool = False) -> None:
    """C-ECHO a remote AE.

    Raises
    ------
    DestinationUnavailable
        The text has the reason and what to check.
    """
    from backup_scp.dimse.scu.verification_scu import echo as verification_echo

    verification_echo(local_ae(settings), ae_title, host, port, tls=tls)


def access_policy(settings: Settings) -> AccessPolicy:
    """Return the access policy of the settings."""
    from backup_scp.dimse.association.access import AccessPolicy

    return AccessPolicy(
        settings.remotes,
        trust_this_machine=settings.node.trust_this_machine,
        refuses_strangers=settings.node.strangers == "refuse",
    )


def local_ae(settings: Settings) -> LocalAE:
    """Return the AE title and certificate for our own calls.

    Raises
    ------
    InvalidSettings
        The certificate cannot be used.
    """
    from backup_scp.dimse.association.association import LocalAE

    secured = None
    if (files := settings.tls_files) is not None:
        from backup_scp.dimse.upper_layer.tls import Credentials, requestor_context

        credentials = Credentials(*files)
        if credentials.ca is not None:
            secured = RenewedContext(functools.partial(requestor_context, credentials), credentials.files)
    return LocalAE(settings.node.ae_title, timing(settings), secured)


def timing(settings: Settings) -> Timing:
    """Return the timeouts of the settings."""
    from backup_scp.dimse.association.association import Timing

    node = settings.node
    return Timing(
        connect_s=node.connect_timeout_s,
        association_s=node.association_timeout_s,
        idle_s=node.idle_timeout_s,
        network_s=node.network_timeout_s,
    )


def listening(settings: Settings) -> ListenSettings:
    """Return address, AE title and limits of the node's listeners.

    Raises
    ------
    InvalidSettings
        The certificate cannot be used.
    """
    from backup_scp.dimse.association.listener import ListenSettings

    node, secured = settings.node, None
    if (files := settings.tls_files) is not None:
        from backup_scp.dimse.upper_layer.tls import Credentials, acceptor_context

        credentials = Credentials(*files)
        secured = RenewedContext(functools.partial(acceptor_context, credentials), credentials.files)
    return ListenSettings(
        ae_title=node.ae_title,
        host=node.host,
        port=node.port,
        plain=node.plain,
        check_called_ae_title=node.check_called_ae_title,
        maximum_associations=node.maximum_associations,
        reserved_associations=node.reserved_associations,
        maximum_associations_per_address=node.maximum_associations_per_address,
        maximum_pdu_length=node.maximum_pdu_length,
        timing=timing(settings),
        tls=secured,
        tls_port=settings.tls.port,
        proxies=tuple(map(network_of, node.proxies)),
    )
