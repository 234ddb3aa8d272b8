"""Query SCU: ask a remote AE how many images of a study it has, or for one of them (PS3.4 C.4.1, Study Root)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator
from typing import Self

from backup_scp.dicom import data_set
from backup_scp.dicom.attributes import BY_KEYWORD, Attribute
from backup_scp.dicom.query.information_model import STUDY_ROOT
from backup_scp.dicom.uids import is_well_formed
from backup_scp.dimse.association.association import Association, AssociationEnded, Context, LocalAE
from backup_scp.dimse.association.negotiation import NATIVE, VERIFICATION
from backup_scp.dimse.messages.command_set import Element, Field, encode
from backup_scp.dimse.messages.dimse_status import PENDING, PENDING_WITH_UNSUPPORTED_KEYS, SUCCESS
from backup_scp.dimse.messages.response_identifier import QUERY_RETRIEVE_LEVEL, encode_elements
from backup_scp.errors import DestinationUnavailable, InvalidDataSet, InvalidIdentifier
from backup_scp.ports import RemoteAE, StoredVersion

log = logging.getLogger(__name__)

_LONGEST_ANSWER = 1 << 16
_LONGEST_COUNT = 12  # characters of an IS, PS3.5 6.2
_STUDY_UID = BY_KEYWORD["StudyInstanceUID"]
_SERIES_UID, _INSTANCE_UID = BY_KEYWORD["SeriesInstanceUID"], BY_KEYWORD["SOPInstanceUID"]
_COUNT = BY_KEYWORD["NumberOfStudyRelatedInstances"]


class StudyCounter:
    """Counts the images of a remote AE.  Most consoles do not answer C-FIND; then all counts and answers are None.

    A context manager, which connects.  See ``ports.Inventory``.

    Parameters
    ----------
    local
        Our AE title and TLS context.
    remote
        The AE to ask.

    Attributes
    ----------
    implementation
        The AE's implementation (PS3.7 D.3.3.2), see ``Association``; empty when it was not reached.
    """

    def __init__(self, local: LocalAE, remote: RemoteAE) -> None:
        self._local = local
        self._remote = remote
        self._association: Association | None = None
        self._context: Context | None = None
        self._message_id = 0
        self.implementation = ""

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exc: object) -> None:
        self.disconnect()

    def connect(self) -> None:
        """See ``ports.Inventory``; what cannot be reached does not say."""
        if self._association is not None:
            return
        with contextlib.suppress(DestinationUnavailable):  # the code that sends images reports this
            self._association = Association.request_from(
                local=self._local,
                called=self._remote.ae_title,
                host=self._remote.host,
                port=self._remote.port,
                contexts=[(STUDY_ROOT.find_uid, NATIVE[:2]), (VERIFICATION, NATIVE[:2])],
                tls=self._remote.tls,
            )
            self.implementation = self._association.implementation
            contexts = self._association.contexts.values()
            self._context = next((one for one in contexts if one.abstract_syntax == STUDY_ROOT.find_uid), None)

    def disconnect(self) -> None:
        """See ``ports.Inventory``."""
        if self._association is not None:
            self._association.release()
        self._association = self._context = None

    def count(self, study_instance_uid: str) -> int | None:
        """Return how many images of a study the AE says it has; None when it does not say."""
        if self._association is None or self._context is None or not is_well_formed(study_instance_uid):
            return None  # an empty UID would match all studies
        keys = [(_STUDY_UID, study_instance_uid), (_COUNT, "")]
        answers = self._answers("STUDY", keys)
        if answers is None:
            return None
        # Some AEs ignore the key and return all studies.
        ours = [answer for answer in answers if text_of(answer, _STUDY_UID) in ("", study_instance_uid)]
        counts = [text_of(answer, _COUNT) for answer in ours]
        if ours and not any(counts):
            return self._count_one_by_one(study_instance_uid)
        known = [number for count in counts if (number := number_of(count)) is not None]
        return sum(known) if len(known) == len(counts) else None

    def _count_one_by_one(self, study_instance_uid: str) -> int | None:
        """Count the images that the AE lists, series by series: some return no counts.  None when it lists none."""
        images = 0
        study = (_STUDY_UID, study_instance_uid)
        for series in self._uids("SERIES", _SERIES_UID, study):
            images += len(self._uids("IMAGE", _INSTANCE_UID, study, (_SERIES_UID, series)))
        return None if self._context is None else images or None

    def _uids(self, level: str, key: Attribute, *above: tuple[Attribute, str]) -> set[str]:
        """Return the UIDs that the AE lists below an entity."""
        listed = set()
        for answer in self._answers(level, [*above, (key, "")]) or ():
            is_below = all(text_of(answer, one) in ("", uid) for one, uid in above)
            if is_below and is_well_formed(uid := text_of(answer, key)):
                listed.add(uid)
        return listed

    def holds(self, held: StoredVersion) -> bool | None:
        """Tell whether the AE says that it has an image; None when it does not answer."""
        if self._association is None or self._context is None or not is_well_formed(held.sop_instance_uid):
            return None
        uids = (held.study_instance_uid, held.series_instance_uid, held.sop_instance_uid)
        answers = self._answers("IMAGE", zip((_STUDY_UID, _SERIES_UID, _INSTANCE_UID), uids, strict=True))
        if answers is None:
            return None
        return any(text_of(answer, _INSTANCE_UID) == held.sop_instance_uid for answer in answers)

    def _answers(self, level: str, keys: Iterable[tuple[Attribute, str]]) -> list[data_set.Elements] | None:
        """Return all answers; None when the AE does not answer, and then ask no more."""
        if self._association is None or self._context is None:
            return None
        try:
            return list(self._find(self._association, self._context, level, keys))
        except (AssociationEnded, InvalidDataSet, InvalidIdentifier) as error:
            log.info("%s does not answer C-FIND: %s", self._remote.name, str(error) or "it broke off")
            self._context = None
            return None

    def _find(
        self, association: Association, context: Context, level: str, keys: Iterable[tuple[Attribute, str]]
    ) -> Iterator[data_set.Elements]:
        self._message_id = self._message_id % 0xFFFF + 1
        status = yield from find(association, context, self._message_id, level, keys)
        if status != SUCCESS:
            raise InvalidDataSet(f"status 0x{status:04X}")


def find(
    association: Association, context: Context, message_id: int, level: str, keys: Iterable[tuple[Attribute, str]]
) -> Generator[data_set.Elements, None, int]:
    """Send one C-FIND-RQ; yield the answers, and return the final Status (PS3.4 C.4.1).

    Raises
    ------
    AssociationEnded
        The peer is gone.
    InvalidDataSet, InvalidIdentifier
        An answer cannot be read: the Association is of no more use.
    """
    request: dict[Element, str | int] = {
        Element.AFFECTED_SOP_CLASS_UID: STUDY_ROOT.find_uid,
        Element.COMMAND_FIELD: Field.C_FIND_RQ,
        Element.MESSAGE_ID: message_id,
        Element.PRIORITY: 0,
    }
    elements = [(QUERY_RETRIEVE_LEVEL, "CS", level.encode())]
    elements += [(key.tag, key.vr, value.encode("latin-1", "replace")) for key, value in keys]
    association.send(
        context.context_id, encode(request, data_set=True), encode_elements(elements, context.transfer_syntax)
    )
    while True:
        answer = association.read_response(Field.C_FIND_RSP, message_id, with_data_set=True)
        if answer.status not in {PENDING, PENDING_WITH_UNSUPPORTED_KEYS}:
            association.skip_data_set()
            return answer.status
        identifier = association.read_identifier(_LONGEST_ANSWER)
        yield data_set.read(identifier, context.transfer_syntax, _LONGEST_ANSWER)


def text_of(answer: data_set.Elements, key: Attribute) -> str:
    """Return the value of a key in an answer, without padding; empty when it has none."""
    return bytes(answer.get(key.tag, ("", b""))[1]).strip(b" \0").decode("latin-1")


def number_of(text: str) -> int | None:
    """Read a number of images; None when it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_COUNT else None
