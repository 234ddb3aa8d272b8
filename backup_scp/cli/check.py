"""backup-scp check."""

from __future__ import annotations

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, settings_of
from backup_scp.cli.output import print_json, say

_MARKS = {"ok": "ok  ", "note": "note", "act": "FAIL"}


def check(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Check settings, ports, certificates, archive, index and remote AEs; say what to fix.

    Tries the steps of the node's start, but creates nothing: no folder, no index, no log file. Writes a few bytes to
    the disks of archive and index and removes them again. Sends C-ECHO to the running node and to each remote AE.
    Exit code 1 when a check fails; a node that does not run is no failure here.
    """
    settings = settings_of(context, config, logs=False)
    from backup_scp.node.health.checks import checks
    from backup_scp.node.health.finding import needs_a_person

    findings = []
    for finding in checks(settings):
        findings.append(finding)
        if not json:
            fix = f"; {finding.fix}" if finding.fix else ""
            say(f"{_MARKS[finding.severity]}  {finding.what}: {finding.sentence}{fix}")
    if json:
        print_json(findings)
    if needs_a_person(findings):
        raise typer.Exit(1)
