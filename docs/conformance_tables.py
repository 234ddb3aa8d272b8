"""Make the tables of the Conformance Statement from the tables in the code."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import JPEGLosslessSV1
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from backup_scp.dicom.character_set.coded_sets import BY_NUMBER, WHOLE
from backup_scp.dicom.query.information_model import MODELS, STUDY_ROOT
from backup_scp.dicom.transcode import alternatives
from backup_scp.dicom.transcode.decoders import DECODABLE
from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from backup_scp.dimse.association import extended_negotiation, negotiation
from backup_scp.dimse.association.association import Association
from backup_scp.dimse.association.identification import user_rejected
from backup_scp.dimse.association.negotiation import (
    LOSSY,
    NATIVE,
    STORAGE_COMMITMENT,
    VERIFICATION,
    is_storage,
    is_supported,
)
from backup_scp.dimse.messages.commitment_data_sets import MOST_REFERENCES
from backup_scp.dimse.messages.dimse_status import ANSWERS, is_warning
from backup_scp.dimse.scu.event_report import TRANSFER_SYNTAXES
from backup_scp.dimse.scu.storage_contexts import propose
from backup_scp.dimse.scu.wanted_contexts import contexts_as_stored
from backup_scp.machine import clock
from backup_scp.node.settings import NodeSettings
from backup_scp.ports import FailureReason, StoredVersion
from backup_scp.services.commitment_worker import CommitmentWorker

CONF = Path(__file__).parents[1] / "conf" / "backup-scp.toml"
_REPORTERS = inspect.signature(CommitmentWorker).parameters["reporters"].default
INFORMATION_MODELS = tuple(dict.fromkeys(MODELS.values()))
NODE = NodeSettings()
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_REAL_TIME_VIDEO = "1.2.840.10008.1.2.7."  # PS3.22: streams, never a stored Data Set


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def registered(kind: str) -> dict[str, str]:
    """List the UIDs of one type with their names, in the order of PS3.6 Table A-1."""
    return {
        uid: (name or "(without a name)") + (" (retired)" if retired else "")
        for uid, (name, of_type, _, retired, _) in UID_dictionary.items()
        if of_type == kind
    }


def node(setting: str) -> str:
    """Return the default of a setting of [node]."""
    return str(getattr(NODE, setting))


_REASONS = {
    FailureReason.PROCESSING_FAILURE: (
        "Processing failure",
        "its stored bytes differ from the received ones, or the archive cannot be read: send it and ask again",
    ),
    FailureReason.NO_SUCH_OBJECT_INSTANCE: ("No such object instance", "it has not arrived, or its file is gone"),
    FailureReason.CLASS_INSTANCE_CONFLICT: ("Class / Instance conflict", "it is stored under another SOP Class"),
    FailureReason.SOP_CLASS_NOT_SUPPORTED: (
        "Referenced SOP Class not supported",
        "it is not stored, and its SOP Class is no storage class",
    ),
}


def failure_reasons() -> str:
    """Section 5.2.6: why an instance is not committed."""
    rows = [(f"{reason:04X}", *_REASONS[reason]) for reason in FailureReason]
    return table(("Failure Reason", "Meaning", "Condition"), rows)


def most_references() -> str:
    """Return how many references a Storage Commitment request may have."""
    return f"{MOST_REFERENCES:,}"


def name_of(uid: str) -> str:
    """Return the name of a UID in PS3.6."""
    return UID_dictionary[uid][0]


# ------------------------------------------------------------------------------------------------ SOP Classes


def storage_sop_classes() -> str:
    """Section 1.1: the SOP Classes of Storage."""
    rows = [(name, uid, "Y", "Y") for uid, name in registered("SOP Class").items() if is_storage(uid)]
    return table(("SOP Class", "SOP Class UID", "SCU", "SCP"), rows)


def other_sop_classes() -> str:
    """Section 1.2: Verification, Storage Commitment and Query/Retrieve."""
    rows = [
        (name_of(VERIFICATION), VERIFICATION, "Y", "Y"),
        (name_of(STORAGE_COMMITMENT), STORAGE_COMMITMENT, "Y", "Y"),
        *((name_of(uid), uid, "Y" if uid in _QUERY_RETRIEVE_SCU else "N", "Y") for uid in MODELS),
    ]
    return table(("SOP Class", "SOP Class UID", "SCU", "SCP"), rows)


_QUERY_RETRIEVE_SCU = (STUDY_ROOT.find_uid, STUDY_ROOT.get_uid, STUDY_ROOT.move_uid)

_OFTEN_ASKED_FOR = (
    *("1.2.840.10008.1.20.2", "1.2.840.10008.5.1.4.31", "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.33"),
    *("1.2.840.10008.5.1.4.34.6.1", "1.2.840.10008.5.1.4.1.2.4.2", "1.2.840.10008.5.1.4.1.2.4.3"),
    *("1.2.840.10008.5.1.4.1.2.5.3", "1.2.840.10008.5.1.4.1.1.201.6", "1.2.840.10008.5.1.4.38.2"),
    *("1.2.840.10008.5.1.1.1", "1.2.840.10008.5.1.1.33"),
)


def refused_sop_classes() -> str:
    """Section 1.2: some SOP Classes of PS3.6 that the node does not support."""
    rows = [(name_of(uid), uid) for uid in _OFTEN_ASKED_FOR if not is_supported(uid)]
    return table(("SOP Class", "SOP Class UID"), rows)


# ------------------------------------------------------------------------------------------------ Transfer Syntaxes


def storage_transfer_syntaxes() -> str:
    """Section 7.2.1.4: the Transfer Syntaxes of Storage, and those in which instances can be sent."""
    return table(
        ("Transfer Syntax", "UID", "Chosen", "Sent as"),
        (
            (name, uid, "only alone" if uid in LOSSY else "first proposed", _sent_as(uid))
            for uid, name in registered("Transfer Syntax").items()
            if not uid.startswith(_REAL_TIME_VIDEO)
        ),
    )


def _sent_as(uid: str) -> str:
    return "stored, else native" if uid in DECODABLE or alternatives(uid) else "stored"


def native_transfer_syntaxes() -> str:
    """Section 7.2.1.4: the Transfer Syntaxes of the other services."""
    return table(("Transfer Syntax", "UID"), ((name_of(uid), uid) for uid in NATIVE))


def proposed_contexts() -> str:
    """Section 7.2.1.3: the Presentation Contexts that our own Associations propose."""
    jpeg = str(JPEGLosslessSV1)
    held = StoredVersion("", "", "", CT_IMAGE_STORAGE, jpeg, "", "", 0, clock.now())
    rows = [("Verification", name_of(VERIFICATION), ", ".join(map(name_of, NATIVE[:2])), "SCU")]
    for _, (syntax,) in propose([held])[0]:
        stored = "each one that an instance is stored in, alone" if syntax == jpeg else f"{name_of(syntax)}, alone"
        rows.append(("Storage", "each one of the instances to be sent", stored, "SCU"))
    rows.append(
        ("Storage, after an Association was lost", "that of the instance", f"{name_of(NATIVE[1])}, alone", "SCU")
    )
    native = ", ".join(map(name_of, NATIVE[:2]))
    rows += [("Query/Retrieve", name_of(uid), native, "SCU") for uid in _QUERY_RETRIEVE_SCU]
    rows.append(
        ("Storage, in C-GET", "that of the instance", "the stored one and those above, each alone", "SCP, proposed")
    )
    syntaxes = len(contexts_as_stored([CT_IMAGE_STORAGE]))
    rows.append(("Storage, in C-GET of `pull`", "at most 4", f"{syntaxes} of Table 7-4, each alone", "SCP, proposed"))
    rows.append(("Storage Commitment", name_of(STORAGE_COMMITMENT), native, "SCU"))
    rows.append(
        ("Storage Commitment", name_of(STORAGE_COMMITMENT), ", ".join(map(name_of, TRANSFER_SYNTAXES)), "SCP, proposed")
    )
    return table(("Service", "Abstract Syntax", "Transfer Syntaxes of one Presentation Context", "Role"), rows)


# ------------------------------------------------------------------------------------------------ negotiation

_FIND_BYTES = (  # PS3.4 Tables C.5-1 and C.5-2
    "Relational-queries",
    "Combined date-time matching",
    "Fuzzy semantic matching of person names",
    "Timezone query adjustment",
    "Query/Retrieve View (Enhanced Multi-Frame Image Conversion)",
    "Empty value matching",
    "Multiple value matching",
)
_RETRIEVE_BYTES = ("Relational-retrieval", "Query/Retrieve View (Enhanced Multi-Frame Image Conversion)")


def extended_negotiation_bytes() -> str:
    """Section 7.2.1.4: the answer to each byte of SOP Class Extended Negotiation that is proposed as 1."""
    rows = []
    for service, uid, names in (
        ("FIND", "find_uid", _FIND_BYTES),
        ("MOVE", "move_uid", _RETRIEVE_BYTES),
        ("GET", "get_uid", _RETRIEVE_BYTES),
    ):
        answers = {extended_negotiation.answer(getattr(model, uid), b"\1" * 16) for model in INFORMATION_MODELS}
        (answered,) = answers  # every model alike
        rows += [(service, place, *each) for place, each in enumerate(zip(names, answered, strict=True), 1)]
    return table(("SOP Classes", "Byte", "Proposed as 1", "Answer"), rows)


def roles() -> str:
    """Section 7.2.1.4: the answers to SCP/SCU Role Selection."""
    rows = []
    for what, uid in (
        ("Storage, Storage Commitment", CT_IMAGE_STORAGE),
        ("Verification, Query/Retrieve", VERIFICATION),
    ):
        for scu, scp in ((1, 0), (0, 1), (1, 1)):
            asked = SCP_SCU_RoleSelectionNegotiation()
            asked.sop_class_uid, asked.scu_role, asked.scp_role = uid, bool(scu), bool(scp)
            given = negotiation.answer_role(uid, asked)
            answer = f"SCU {given.scu_role:d}, SCP {given.scp_role:d}" if given else "none"
            rows.append((what, f"SCU {scu}, SCP {scp}", answer))
    return table(("SOP Classes", "Proposed of the requestor", "Answer"), rows)


def rejections() -> str:
    """Section 7.2.1.4: the reasons for rejecting an Association."""
    made = (
        ("bit 0 of the protocol version is not set", negotiation.protocol_version_not_supported(0)),
        ("calling AE title is blank or has control characters", negotiation.calling_ae_title_not_recognised("")),
        ("called AE title is another one", negotiation.called_ae_title_not_recognised("", NODE.ae_title)),
        (
            'called without TLS by a remote AE with `tls = "required"` or with `certificate`',
            negotiation.tls_required("", 0, asks_for_certificate=False),
        ),
        ('called by none of the remote AEs, with `strangers = "refuse"`', negotiation.stranger_refused("")),
        ("a user who is not as `user_identity` of its remote AE asks (PS3.7 D.3.3.7.3)", user_rejected("", "")),
        ("too many Associations", negotiation.local_limit_exceeded(NODE.maximum_associations)),
        (
            "too many Associations of an address that is not configured",
            negotiation.limit_of_one_address_exceeded(NODE.maximum_associations_per_address),
        ),
        ("the node stops", negotiation.temporary_congestion()),
    )
    return table(
        ("Condition", "Result", "Source", "Reason"),
        ((condition, r.result, r.source, r.diagnostic) for condition, r in made),
    )


def association_parameters() -> str:
    """Section 7.2.1.2."""
    own = inspect.signature(Association.request_from).parameters["maximum_pdu_length"].default
    rows: list[tuple[str, object]] = [
        ("Application Context Name", "1.2.840.10008.3.1.1.1"),
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
        ("Maximum PDU length offered as acceptor, bytes", NODE.maximum_pdu_length),
        ("Maximum PDU length offered as requestor, bytes", own),
        ("Associations accepted at once, from anyone", NODE.maximum_associations),
        ("Further ones kept for configured remote AEs and this machine", NODE.reserved_associations),
        ("Of them from one address that is neither", NODE.maximum_associations_per_address),
        ("Associations opened at once", f"1 for each running C-MOVE, {_REPORTERS} for Storage Commitment"),
        ("Outstanding asynchronous operations", 1),
        ("TCP connection time-out, at each address of a host, s", f"{NODE.connect_timeout_s:g}"),
        ("ARTIM time-out, and answer to our own Association request, s", f"{NODE.association_timeout_s:g}"),
        ("Idle time-out between messages, s", f"{NODE.idle_timeout_s:g}"),
        ("Time-out within a message, s", f"{NODE.network_timeout_s:g}"),
    ]
    return table(("Name", "Value"), rows)


# ------------------------------------------------------------------------------------------------ character sets

_REPERTOIRES = {  # PS3.3 Tables C.12-2 to C.12-5, by ISO registration number
    6: "default repertoire",
    13: "Japanese, JIS X 0201: katakana and romaji",
    58: "Simplified Chinese, GB 2312",
    87: "Japanese, JIS X 0208: kanji",
    100: "Latin alphabet No. 1",
    101: "Latin alphabet No. 2",
    109: "Latin alphabet No. 3",
    110: "Latin alphabet No. 4",
    126: "Greek",
    127: "Arabic",
    138: "Hebrew",
    144: "Cyrillic",
    148: "Latin alphabet No. 5",
    149: "Korean, KS X 1001: hangul and hanja",
    159: "Japanese, JIS X 0212: supplementary kanji",
    166: "Thai",
    203: "Latin alphabet No. 9",
}
_WHOLE_REPERTOIRES = {
    "ISO_IR 192": "Unicode in UTF-8",
    "GB18030": "Chinese, GB 18030",
    "GBK": "Simplified Chinese, GBK",
}


def character_sets() -> str:
    """Section 1.7: the character sets of stored Data Sets, requests and answers."""
    rows = [
        (_REPERTOIRES[number], "-" if coded.double else f"ISO_IR {number}", f"ISO 2022 IR {number}")
        for number, coded in BY_NUMBER.items()
    ]
    rows += [(_WHOLE_REPERTOIRES[term], term, "-") for term in WHOLE]
    return table(("Repertoire", "Without code extension", "With code extension"), rows)


# ------------------------------------------------------------------------------------------------ Status codes


def statuses(service: str) -> str:
    """Section 7.3: the Status codes of one service, and their conditions."""
    header = ("Service Status", "Further Meaning", "Status Code", "Condition", "Error Comment")
    rows = [(_kind(a.status), a.meaning, f"{a.status:04X}", a.condition, a.comment or "-") for a in ANSWERS[service]]
    return table(header, rows)


def _kind(status: int) -> str:
    if status in (0, 0xFE00):
        return "Cancel" if status else "Success"
    if is_warning(status):
        return "Warning"
    return "Pending" if status >> 8 == 0xFF else "Failure"


# ------------------------------------------------------------------------------------------------ settings

_SETTING = re.compile(r"((?:# .*\n)+)#(\w+) = (.*)\n")
_SECTION = re.compile(r"^#?(\[+[\w.]+\]+)$", re.MULTILINE)


def settings(section: str) -> str:
    """Section 6: the settings of one section, as conf/backup-scp.toml explains them."""
    text = CONF.read_text("utf-8")
    begin = text.index(f"{section}\n")
    end = _SECTION.search(text, begin + len(section))
    rows = [
        (f"`{name}`", _value(default), " ".join(line.removeprefix("# ") for line in comment.splitlines()))
        for comment, name, default in _SETTING.findall(text[begin : end.start() if end else None])
    ]
    return table(("Setting", "Default", "Meaning"), rows)


def _value(written: str) -> str:
    value = tomllib.loads(f"value = {written}")["value"]
    return "empty" if value == "" else f"`{written}`"
