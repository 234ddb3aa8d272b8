"""Query/Retrieve SCP: C-FIND (PS3.4 C.4.1)."""

from __future__ import annotations

from contextlib import closing

from backup_scp.identifier import Identifier
from backup_scp.information_model import MODELS, read_query, unsupported_keys
from backup_scp.network.association import Association, Context
from backup_scp.network.command_set import CommandSet, response
from backup_scp.network.identifier import AnswerEncoder
from backup_scp.network.status import CANCEL, PENDING, PENDING_WITH_UNSUPPORTED_KEYS, SUCCESS
from backup_scp.ports import Index

_ANSWERS_BETWEEN_LOOKS = 50  # at the network, for C-CANCEL and A-ABORT


class QuerySCP:
    """Answers C-FIND.

    Parameters
    ----------
    index
        What answers.
    ae_title
        Our own, for Retrieve AE Title.
    """

    def __init__(self, index: Index, ae_title: str) -> None:
        self._index = index
        self._ae_title = ae_title

    def serve(self, association: Association, context: Context, command: CommandSet) -> None:
        """Answer one C-FIND-RQ: a pending answer for each match, then the final one."""
        association.forget_cancelled()
        identifier = Identifier.read(association.read_identifier(), context.transfer_syntax)
        status = self._answer(association, context, command, identifier)
        association.send(context.context_id, response(command, status))

    def _answer(self, association: Association, context: Context, command: CommandSet, identifier: Identifier) -> int:
        model = MODELS[context.abstract_syntax]
        query = read_query(identifier, model)
        encoder = AnswerEncoder(identifier, model, context.transfer_syntax, self._ae_title)
        status = PENDING_WITH_UNSUPPORTED_KEYS if unsupported_keys(identifier, model) else PENDING
        pending = response(command, status, data_set=True)
        with closing(self._index.search(query)) as matches:
            for number, match in enumerate(matches):
                association.send(context.context_id, pending, encoder.encode(match))
                if number % _ANSWERS_BETWEEN_LOOKS == 0 and association.cancelled(command.message_id):
                    return CANCEL
        return SUCCESS
