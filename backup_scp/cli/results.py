"""The types that commands print with ``--json``, for docs/cli.md and the tests."""

from __future__ import annotations

from typing import Any, NamedTuple

from backup_scp.audit.log_check import LogCheck
from backup_scp.audit.shown_entries import ShownEntry
from backup_scp.certificates.certified import Certified, ForClient
from backup_scp.cli.alerts import AlertSent
from backup_scp.cli.audit import SyslogTested
from backup_scp.cli.copies import Forgotten
from backup_scp.cli.copies_fetch import FetchedImages
from backup_scp.cli.copies_report import CopiesRun
from backup_scp.cli.db import Upgraded
from backup_scp.cli.drill_report import DrillRun
from backup_scp.cli.echo import Echoed
from backup_scp.cli.index import Copied
from backup_scp.cli.patients import ChangedLink
from backup_scp.cli.recovery_watch import RecoveryEnd
from backup_scp.cli.restore_summary import RestoreSummary
from backup_scp.cli.setup import SetUp
from backup_scp.cli.tls import InitResult
from backup_scp.cli.users import ChangedUser, ListedUser
from backup_scp.node.copy_keys import CopyKeys
from backup_scp.node.copy_setup import Prepared
from backup_scp.node.health.finding import Finding
from backup_scp.node.health.status_report import Status
from backup_scp.node.plan import DisasterPlan
from backup_scp.node.reloading import Reloaded
from backup_scp.node.start_report import Ready
from backup_scp.ports import AuditEvent, CopyState, PatientLink, PlaceAnswer
from backup_scp.services.import_result import Imported
from backup_scp.services.pull_result import Pulled
from backup_scp.services.rebuild import Rebuild
from backup_scp.services.verify import Verification
from backup_scp.watch.alert_list import AlertList
from backup_scp.watch.cost import Cost


class Result(NamedTuple):
    """The result of a command.

    Attributes
    ----------
    kind
        Its type, for msgspec.
    remark
        A note for programs.
    """

    kind: Any
    remark: str = ""


RESULTS = {
    "serve": Result(
        Ready, "It is printed when the node is ready; the log goes elsewhere, see `[log]` in the settings."
    ),
    "setup": Result(SetUp, "Questions go to standard error."),
    "reload": Result(Reloaded, "Exit code 1 when the node keeps the settings that it has."),
    "status": Result(Status),
    "check": Result(list[Finding]),
    "echo": Result(Echoed),
    "import": Result(Imported),
    "pull": Result(Pulled),
    "recover": Result(RecoveryEnd, "It is printed when all is back."),
    "restore": Result(RestoreSummary),
    "drill": Result(DrillRun, "Exit code 1 when something is wrong, or when no copy could be reached."),
    "plan": Result(DisasterPlan),
    "alerts test": Result(list[AlertSent], "One for each channel; exit code 1 when one of them did not take it."),
    "alerts list": Result(AlertList),
    "verify": Result(Verification),
    "rebuild": Result(Rebuild),
    "copies": Result(list[CopyState]),
    "copies sync": Result(CopiesRun),
    "copies verify": Result(CopiesRun),
    "copies fetch": Result(FetchedImages),
    "copies check": Result(list[PlaceAnswer]),
    "copies keys": Result(CopyKeys),
    "copies init": Result(Prepared),
    "copies forget": Result(Forgotten),
    "copies cost": Result(Cost),
    "index backup": Result(Copied),
    "db upgrade": Result(Upgraded),
    "users list": Result(list[ListedUser]),
    **dict.fromkeys(
        [f"users {name}" for name in ("add", "role", "reset", "link", "unlink", "disable", "enable", "remove")],
        Result(ChangedUser),
    ),
    "audit test": Result(SyslogTested, "Exit code 1 when the server did not take it."),
    "audit show": Result(list[ShownEntry], "The oldest first."),
    "audit verify": Result(LogCheck, "Exit code 1 when a record was changed."),
    "tls init": Result(InitResult, "With --write it does not ask."),
    "tls renew": Result(Certified),
    "tls client": Result(ForClient),
    "users log": Result(list[AuditEvent], "The newest first."),
    "patients links": Result(list[PatientLink], "The newest first; with Patient IDs."),
    **dict.fromkeys(["patients link", "patients unlink"], Result(ChangedLink)),
}
