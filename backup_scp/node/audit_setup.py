"""Open the audit trail of a process: a thread that writes messages to the audit log in the folder of the node."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backup_scp.audit.audit_log import AuditLog
from backup_scp.audit.log_forwarding import LogForwarding
from backup_scp.audit.log_record import LogRecord, RecordKind
from backup_scp.audit.syslog_message import syslog_message
from backup_scp.audit.syslog_server import SyslogServer
from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import Condition, Query, SingleValue
from backup_scp.errors import Unavailable
from backup_scp.machine import clock
from backup_scp.node.accounts_setup import open_accounts
from backup_scp.node.settings import Settings
from backup_scp.ports import RemoteAE, StudyReader, TrailEvent, new_correlation_id
from backup_scp.services.audit_message import audit_message
from backup_scp.services.audit_reporter import AuditReporter, Party
from backup_scp.services.restore_result import Restore
from backup_scp.services.study_counts import StudyCounts
from backup_scp.watch.audit_thread import AuditThread
from backup_scp.watch.syslog_thread import SyslogThread

if TYPE_CHECKING:
    from backup_scp.accounts.sql_accounts import SQLAccounts
    from backup_scp.node.opening import OpenStores
    from backup_scp.services.ingest import Ingest

_STUDY, _PATIENT_ID = BY_KEYWORD["StudyInstanceUID"], BY_KEYWORD["PatientID"]

FOLDER = "audit"
"""The folder of the log in the node's own one."""


def audit_thread(settings: Settings, index: StudyReader | None = None) -> AuditThread:
    """Return the thread that keeps the trail of this process; the index tells the patients of studies."""
    patient_of = patients_in(index) if index is not None else lambda _: ""
    log = AuditLog(settings.home / FOLDER)
    return AuditThread(log.append, _source_id(settings), patient_of, settle=log.settle)


def syslog_server(settings: Settings) -> SyslogServer | None:
    """Return the server that gets the log as well; None when the settings name none."""
    said = settings.audit
    if not said.syslog:
        return None
    host, port = said.syslog_server
    ca = settings.home / Path(said.ca).expanduser() if said.ca else None
    certificate, key, _ = settings.audit_files or (None, None, None)
    return SyslogServer(host, port, ca, certificate, key)


def start_forwarding(settings: Settings, stack: ExitStack) -> None:
    """Send the log to the syslog server of the settings, if they name one, until the stack is closed."""
    server = syslog_server(settings)
    if server is not None:
        thread = SyslogThread(LogForwarding(settings.home / FOLDER, server).send_some)
        thread.start()
        stack.callback(thread.stop)


def trial_message(settings: Settings, user: str) -> bytes:
    """Return a syslog message that says that somebody looks at the audit log; no log has it."""
    events: list[TrailEvent] = []
    AuditReporter(_Kept(events.append), settings.node.ae_title).log_used(Party(user), "a trial of the syslog server")
    content = audit_message(events[0], _source_id(settings))
    return syslog_message(LogRecord(1, clock.now().isoformat(), "", RecordKind.ENTRY, content), os.getpid())


class _Kept(NamedTuple):
    """A trail that gives each entry to a function."""

    record: Callable[[TrailEvent], None]


def _source_id(settings: Settings) -> str:
    return f"{settings.node.ae_title}@{socket.gethostname()}"


@contextmanager
def reporting(settings: Settings, index: StudyReader | None = None) -> Iterator[AuditReporter]:
    """Report to the trail in the block, and write what waits at its end."""
    thread = audit_thread(settings, index)
    thread.start()
    try:
        yield AuditReporter(thread, settings.node.ae_title)
    finally:
        thread.stop()


@contextmanager
def reporting_on(storage: OpenStores) -> Iterator[AuditReporter]:
    """Report in the block, also what copies take and give back, and damage; see ``OpenStores.report_to``."""
    with reporting(storage.settings, storage.index) as reporter:
        storage.report_to(reporter)
        try:
            yield reporter
        finally:
            storage.report_to(AuditReporter())


@contextmanager
def reported(ingest: Ingest, reporter: AuditReporter, place: str) -> Iterator[None]:
    """Report what is taken in during the block as imported from a place."""
    run = new_correlation_id()
    came = StudyCounts(lambda studies: reporter.imported(studies, place, run))
    ingest.on_accepted = came.add
    try:
        yield
    finally:
        came.report()


def report_restore(reporter: AuditReporter, done: Restore, remote: RemoteAE | None, place: str) -> None:
    """Report what a restore has sent of each study, and what not."""
    run = new_correlation_id()
    sent = {uid: {"": study.sent} for uid, study in done.studies.items() if study.sent}
    failed = {uid: {"": study.failed} for uid, study in done.studies.items() if study.failed}
    for studies, reason in ((sent, ""), (failed, "The destination did not confirm them")):
        if remote is not None:
            reporter.sent(studies, Party(remote.ae_title, remote.host, is_ae=True), run, failed=reason)
        else:
            reporter.exported(studies, place, run, failed=reason)


@contextmanager
def audited_accounts(settings: Settings) -> Iterator[SQLAccounts]:
    """Open the database of users in the block; what its audit gets is reported to the trail."""
    with reporting(settings) as reporter, closing(open_accounts(settings)) as accounts:
        accounts.on_event = reporter.account_event
        yield accounts


def patients_in(index: StudyReader) -> Callable[[str], str]:
    """Return what finds the Patient ID of a study; nothing while the index does not answer."""

    def patient_of(study_instance_uid: str) -> str:
        wanted = (Condition(_STUDY, SingleValue(study_instance_uid)),)
        query = Query(Level.STUDY, wanted, (_PATIENT_ID,))
        with suppress(Unavailable), closing(index.search(query)) as found:
            return next((match.get("PatientID", "") for match in found), "")
        return ""

    return patient_of
