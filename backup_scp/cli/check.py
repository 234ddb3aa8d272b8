"""backup-scp check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import print_json, say, waits_for

if TYPE_CHECKING:
    from backup_scp.node.health.finding import Finding
    from backup_scp.node.settings import Settings
    from backup_scp.ports import RemoteAE

_MARKS = {"ok": "ok  ", "note": "note", "act": "FAIL"}


def check(
    context: typer.Context,
    ae: Annotated[
        str,
        typer.Argument(
            metavar="[AE]",
            help="Check this remote AE alone (its name or AE title, or AETITLE@HOST:PORT).",
            show_default=False,
        ),
    ] = "",
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Check settings, ports, certificates, archive, index and remote AEs; say what to fix.

    Tries the steps of the node's start, but creates nothing: no folder, no index, no log file. Writes a few bytes to
    the disks of archive and index and removes them again. Sends C-ECHO to the running node and to each remote AE, asks
    each which of the images here it would take, and tries its commitment_port; sends no image. Exit code 1 when a check
    fails; a node that does not run is no failure here.
    """
    settings = settings_of(context, config, logs=False)
    from backup_scp.node.health.finding import needs_a_person

    findings = []
    for finding in _findings(settings, ae):
        findings.append(finding)
        waits_for("")
        if not json:
            fix = f"; {finding.fix}" if finding.fix else ""
            say(f"{_MARKS[finding.severity]}  {finding.what}: {finding.sentence}{fix}")
    if json:
        print_json(findings)
    if needs_a_person(findings):
        raise typer.Exit(1)


def _findings(settings: Settings, ae: str) -> Iterator[Finding]:
    from backup_scp.node.health.checks import checks
    from backup_scp.node.health.remote_checks import check_remote, chosen_remote, stored_classes

    def ask(remote: RemoteAE) -> None:
        waits_for(f"{remote.name}: asks {remote.host} port {remote.port}")

    if not ae:
        yield from checks(settings, ask)
        return
    remote = chosen_remote(settings, ae)
    ask(remote)
    yield from check_remote(settings, remote, stored_classes(settings))
