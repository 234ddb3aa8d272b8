"""What each command prints with ``--json``; docs/cli.md and the tests read it here."""

from __future__ import annotations

from typing import Any, NamedTuple

from backup_scp.cli.db import Upgraded
from backup_scp.cli.echo import Echoed
from backup_scp.cli.import_folders import Imported
from backup_scp.cli.index import Copied
from backup_scp.cli.restore_summary import RestoreSummary
from backup_scp.node.health.finding import Finding
from backup_scp.node.health.status_report import Status
from backup_scp.node.supervisor import Ready
from backup_scp.services.rebuild import Rebuild
from backup_scp.services.verify import Verification


class Result(NamedTuple):
    """What a command prints.

    Attributes
    ----------
    kind
        The type of it, as msgspec reads it.
    remark
        What a program should know besides.
    """

    kind: Any
    remark: str = ""


RESULTS = {
    "serve": Result(
        Ready, "It is printed when the node is ready; the log goes elsewhere, see `[log]` in the settings."
    ),
    "status": Result(Status),
    "check": Result(list[Finding]),
    "echo": Result(Echoed),
    "import": Result(Imported),
    "restore": Result(RestoreSummary),
    "verify": Result(Verification),
    "rebuild": Result(Rebuild),
    "index backup": Result(Copied),
    "db upgrade": Result(Upgraded),
}
