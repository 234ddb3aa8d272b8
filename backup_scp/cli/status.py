"""backup-scp status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from backup_scp.cli.copies_report import tell_drills, tell_states
from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import LIST_LIMIT, count, moment, print_json, say, size

if TYPE_CHECKING:
    from backup_scp.node.health.facts import Known, NodeFacts
    from backup_scp.node.health.finding import Finding
    from backup_scp.ports import FlaggedVersion, OwedReports, Task

_MEANINGS = {
    "unparsed": "its content cannot be read as DICOM; stored as it came, found by its UIDs only",
    "truncated": "it ends too early; stored, and shown only while no complete copy is: send or import it again",
    "not-deflated": "it is labelled as deflated but is not; stored as it came, sent with the right label",
    "identity": "its Patient ID or one of its UIDs is missing or malformed; stored, and found by the values it has",
    "clash": "another sender, or an import, used this UID for other content; both stored, the first answers queries",
    "damaged": "its file changed or is gone; send it again from the console or another archive",
}


def status(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Show whether the node runs, what it stores, and what a person should do.

    Works whether the node runs or not. Exit code 1 when a person must act: the node does not run, it cannot store now,
    images were refused and have not arrived since, a stored file is damaged or missing, the index is incomplete, a
    clock or a certificate is wrong, and so on. "To do" lists each problem with its fix. Lines under "Worth a look" are
    no failures.
    """
    settings = settings_of(context, config)
    from backup_scp.node.health import diagnosis, facts, finding
    from backup_scp.node.health.status_report import status_of

    found = facts.gather(settings)
    listed = diagnosis.findings(found)
    if json:
        print_json(status_of(found, listed))
    else:
        _tell(found, listed)
    if finding.needs_a_person(listed):
        raise typer.Exit(1)


def _tell(found: NodeFacts, listed: list[Finding]) -> None:
    say(_headline(found))
    if found.node.running and found.node.record is not None and found.node.record.web_address:
        say(f"DICOMweb       {found.node.record.web_address}")
    say(f"Data folder    {found.settings.home}")
    if found.known is not None:
        _tell_holdings(found, found.known)
        _tell_maintenance(found, found.known.tasks)
        _tell_remarks(found.known.remarks)
        _tell_commitments(found.known.commitments)
        if found.settings.copy:
            tell_states(found.settings, found.known.copies)
            tell_drills(found.known.drills)
    for one in found.told[:1]:
        say(f"Last message   {moment(one.at)} by {one.channel}: {one.subject}")
    _tell_findings(listed)


def _headline(found: NodeFacts) -> str:
    """Return the first line: whether consoles can send, and where to."""
    from backup_scp.node.run_record import where

    record = found.node.record
    if not found.node.running:
        return "NOT RUNNING: consoles cannot send. Start it with  backup-scp serve"
    if record is None:
        node, tls = found.settings.node, found.settings.tls
        tls_port = tls.port if found.settings.tls_files else None
        told = where(node.ae_title, node.host, node.port if node.plain else None, tls_port)
        return f"Running (its disk cannot record since when). By the settings, consoles send to: {told}"
    return f"Running since {moment(record.since)}. Consoles send to: {record.where}"


def _tell_holdings(found: NodeFacts, known: Known) -> None:
    held = known.holdings
    parts = ", ".join(count(n, noun) for n, noun in ((held.patients, "patient"), (held.studies, "study")))
    several = f" in {held.versions} versions" if held.versions != held.instances else ""
    images = f"{count(held.instances, 'image')}{several}"
    say(f"Holds          {parts}, {held.series} series, {images}, {size(held.size_bytes)}")
    say(f"Last received  {moment(held.last_received_at)}")
    never = ""
    if held.never_verified:
        have = "has" if held.never_verified == 1 else "have"
        images = count(held.never_verified, "image")
        never = f"; {images} {have} not been verified yet (to verify now: backup-scp verify)"
    say(f"Last verified  {moment(held.last_verified_at)}{never}")
    if found.free_bytes is None or known.forecast is None:
        say("Free disk      unknown: the archive's drive is not there")
    else:
        say(f"Free disk      {size(found.free_bytes)}, {known.forecast.sentence}")


def _tell_maintenance(found: NodeFacts, tasks: dict[str, Task]) -> None:
    if done := tasks.get("verified"):
        say(f"Full check     ended {moment(done.ended_at)}: {done.note}")
    if now := tasks.get("verify"):
        say(f"Full check     running since {moment(now.began_at)}: {count(now.done, 'image')} read")
    record = found.node.record
    if found.node.running and record is not None:
        state = "runs" if record.maintenance.alive else "HAS ENDED"
        say(f"Maintenance    {state}, last active {moment(record.maintenance.active_at)}")


def _tell_remarks(remarks: list[FlaggedVersion]) -> None:
    if remarks:
        say("Flagged images:")
    for remark in remarks[:LIST_LIMIT]:
        sender = f" from {_sender(remark)}" if remark.calling_ae_title else ""
        say(f"  {remark.sop_instance_uid}{sender}, {moment(remark.received_at)}: {', '.join(remark.flags)}")
    _tell_rest(remarks)
    used = {flag for remark in remarks[:LIST_LIMIT] for flag in remark.flags}
    for flag in sorted(used):
        say(f"  ({flag}: {_MEANINGS.get(flag, 'see the log')})")


def _sender(remark: FlaggedVersion) -> str:
    """Return the sender's name and address, since several senders may use one AE title."""
    return remark.remote or f"{remark.calling_ae_title} at {remark.address}"


def _tell_commitments(commitments: list[OwedReports]) -> None:
    if commitments:
        say("Storage Commitment:")
    for owed in commitments:
        who = f"{owed.requester.ae_title or 'a web client'} at {owed.requester.address}"
        counts = [(owed.waiting, "being checked"), (owed.owed, "pending"), (owed.given_up, "given up")]
        parts = ", ".join(f"{count(number, 'report')} {what}" for number, what in counts if number)
        say(f"  {who}: {parts}, since {moment(owed.since)}")
        if owed.error:
            again = f", next attempt {moment(owed.next_at)}" if owed.next_at else ""
            say(f"    last attempt {moment(owed.tried_at)}{again}: {owed.error}")


def _tell_rest(listed: Sequence[object]) -> None:
    if len(listed) > LIST_LIMIT:
        say(f"  and {len(listed) - LIST_LIMIT} more (--json lists them)")


def _tell_findings(listed: list[Finding]) -> None:
    from backup_scp.node.health.finding import Severity

    for severity, heading in ((Severity.ACT, "To do:"), (Severity.NOTE, "Worth a look:")):
        some = [finding for finding in listed if finding.severity is severity]
        if some:
            say(heading)
        for finding in some[:LIST_LIMIT]:
            say(f"  - {finding.sentence}")
            for line in finding.fix.splitlines():
                say(f"      {line}")
        _tell_rest(some)
    if not listed:
        say("Nothing to do")
