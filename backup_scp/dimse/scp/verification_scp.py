"""Verification SCP: C-ECHO, open to every AE that may associate (PS3.4 A)."""

from __future__ import annotations

from backup_scp.dimse.association.association import Association, Context
from backup_scp.dimse.messages.command_set import CommandSet, response
from backup_scp.dimse.messages.dimse_status import SUCCESS


class VerificationSCP:
    """Answers C-ECHO."""

    def serve(self, association: Association, context: Context, command: CommandSet) -> None:
        """Answer one C-ECHO-RQ with success (PS3.7 9.1.5)."""
        association.skip_data_set()
        association.send(context.context_id, response(command, SUCCESS))
