"""Query/Retrieve SCP: C-FIND (PS3.4 C.4.1)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import closing

from backup_scp.dicom.query.identifier import Identifier
from backup_scp.dicom.query.information_model import MODELS, NOTHING, read_query, unsupported_keys
from backup_scp.dicom.query.time_zone import InTimeZone, requested_offset
from backup_scp.dimse.association.association import Association, Context
from backup_scp.dimse.messages.command_set import CommandSet, response
from backup_scp.dimse.messages.dimse_status import CANCEL, PENDING, PENDING_WITH_UNSUPPORTED_KEYS, SUCCESS
from backup_scp.dimse.messages.key_names import keys_in_words
from backup_scp.dimse.messages.response_identifier import AnswerEncoder
from backup_scp.ports import Match, SeenBy

log = logging.getLogger(__name__)

_WRITE_BYTES = 1 << 16  # answers are collected up to this size and sent in one write,
_WRITE_S = 0.05  # but no answer waits longer than this


class QuerySCP:
    """Answers C-FIND.

    Parameters
    ----------
    seen_by
        Returns what answers a caller: ``StudyReader.seen_by``.
    strict
        See ``read_query``.
    """

    def __init__(self, seen_by: SeenBy, *, strict: bool = False) -> None:
        self._seen_by = seen_by
        self._strict = strict

    def serve(self, association: Association, context: Context, command: CommandSet) -> None:
        """Answer one C-FIND-RQ: a Pending response for each match, then the final response."""
        association.forget_cancelled()
        encoded = association.read_identifier()
        association.audit.asked(context.abstract_syntax, encoded, context.transfer_syntax)
        identifier = Identifier.read(encoded, context.transfer_syntax)
        status, last = self._answer(association, context, command, identifier)
        layer = association.upper_layer
        with association.guard:
            layer.send_framed(last + layer.framed(context.context_id, response(command, status)))

    def _answer(
        self, association: Association, context: Context, command: CommandSet, identifier: Identifier
    ) -> tuple[int, bytearray]:
        """Send the Pending responses; return the final Status, and responses that remain to be sent before it."""
        began = time.monotonic()
        model = MODELS[context.abstract_syntax]
        negotiated = association.negotiated.get(context.abstract_syntax, NOTHING)
        query = read_query(identifier, model, negotiated, strict=self._strict)
        encoder = AnswerEncoder(identifier, model, context.transfer_syntax, association.our_ae_title)
        unsupported = unsupported_keys(identifier, model)
        offset = requested_offset(identifier) if negotiated.time_zone else ""
        adjusted = InTimeZone(query, offset) if offset else None
        index = self._seen_by(association.caller.scope)
        with closing(index.search(adjusted.query if adjusted else query)) as found:
            matches: Iterable[Match | None] = adjusted.matches(found) if adjusted else found
            answers = (None if match is None else encoder.encode(match) for match in matches)
            status, count, last = self._send_all(
                association, context, command, answers, PENDING_WITH_UNSUPPORTED_KEYS if unsupported else PENDING
            )
        log.info(
            "C-FIND of %s: %s, %s level, %s; %d answers in %.2f s%s",
            association.caller,
            model.name,
            identifier.level,
            keys_in_words(identifier, query, unsupported),
            count,
            time.monotonic() - began,
            ", then cancelled" if status == CANCEL else "",
        )
        return status, last

    @staticmethod
    def _send_all(
        association: Association,
        context: Context,
        command: CommandSet,
        answers: Iterable[bytes | None],
        status: int,
    ) -> tuple[int, int, bytearray]:
        """Send Pending responses in few writes; check for C-CANCEL and A-ABORT after each write (PS3.4 C.4.1.2).

        The first answer, or a None among the answers, only triggers that check.  Return the final Status, the number
        of answers, and the responses that were not sent, so that few answers and the final response are one write.
        """
        pending = response(command, status, data_set=True)
        upper_layer, out, sent_at, count = association.upper_layer, bytearray(), time.monotonic(), 0
        try:
            for answer in answers:
                is_to_look = False
                if answer is not None:
                    count += 1
                    out += upper_layer.framed(context.context_id, pending, answer)
                    is_to_look = count == 1  # a look, but no write
                if len(out) >= _WRITE_BYTES or time.monotonic() - sent_at > _WRITE_S:
                    due, out, sent_at, is_to_look = out, bytearray(), time.monotonic(), True
                    if due:
                        upper_layer.send_framed(due)
                if is_to_look and association.cancelled(command.message_id):
                    return CANCEL, count, out
        except BaseException:
            if out:  # also the answers found before the index failed
                upper_layer.send_framed(out)
            raise
        return SUCCESS, count, out
