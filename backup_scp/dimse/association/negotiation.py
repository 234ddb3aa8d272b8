"""Decide on Presentation Contexts, roles and reasons of rejection (PS3.7 D.3, PS3.8 9.3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydicom.config import IGNORE
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from backup_scp.dicom.query.information_model import MODELS
from backup_scp.dimse.association.ae_title_hints import fix_of_called
from backup_scp.dimse.upper_layer.codecs import PresentationContext, SCP_SCU_RoleSelectionNegotiation

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model, PS3.4 J.3."""

NATIVE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian), str(ExplicitVRBigEndian))
_OTHER_SERVICES = frozenset({VERIFICATION, STORAGE_COMMITMENT, *MODELS})
LOSSY = frozenset(
    (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, JPEG2000MC, HTJ2K, "1.2.840.10008.1.2.4.112")
)
"""Syntaxes with which a sender may lose information: accepted only when it offers no other."""

_CLASSES = ("SOP Class", "Service Class")  # the UID of the Storage Service Class itself is accepted too
_COMMITMENT = (STORAGE_COMMITMENT, "1.2.840.10008.1.20.2")  # push, and the retired pull
_LONGEST_KNOWN_UID = 64  # PS3.5 9.1
ACCEPTED, _ABSTRACT_SYNTAX_NOT_SUPPORTED, _TRANSFER_SYNTAXES_NOT_SUPPORTED = 0, 3, 4  # PS3.8 9.3.3.2


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4), with a sentence for a person."""

    result: int
    source: int
    diagnostic: int
    reason: str
    fix: str


def called_ae_title_not_recognised(called: str, ours: str, calling: str = "") -> AssociateReject:
    """Reject an Association that calls another AE title."""
    reason = f"it calls us {called!a}, and our AE title is {ours}"
    return AssociateReject(1, 1, 7, reason, fix_of_called(called, ours, calling))


def calling_ae_title_not_recognised(calling: str) -> AssociateReject:
    """Reject an Association whose calling AE title is blank (PS3.8 9.3.2) or has control characters (PS3.5 6.2)."""
    reason = f"calling AE title {calling!a} is not valid" if calling else "its calling AE title is blank"
    return AssociateReject(1, 1, 3, reason, "set an AE title of its own at the sender: 1 to 16 letters and digits")


def tls_required(name: str, tls_port: int, *, asks_for_certificate: bool) -> AssociateReject:
    """Reject an Association without TLS from a remote AE whose settings require TLS, or a client certificate."""
    asks = "asks for a client certificate" if asks_for_certificate else "has tls = required"
    fix = f"let it call port {tls_port} with TLS" if tls_port else "set certificate and key of [tls] in the settings"
    return AssociateReject(1, 1, 1, f"remote AE {name} {asks}, and it called without TLS", fix)


def stranger_refused(fix: str) -> AssociateReject:
    """Reject an Association of a caller that is not configured, where the settings refuse strangers."""
    return AssociateReject(1, 1, 3, 'it is none of the [[remote]] entries, and strangers = "refuse"', fix)


def site_not_brought(site: str, name: str) -> AssociateReject:
    """Reject an Association for a clinic whose images this caller may not bring."""
    of_it = f"brings_sites of [[remote]] {name}" if name else "brings_sites of a [[remote]] of its own"
    fix = f"if that node may bring images of this clinic, add it to {of_it}"
    return AssociateReject(1, 1, 1, f"it may not bring images of clinic {site!a}", fix)


def protocol_version_not_supported(version: int) -> AssociateReject:
    """Reject an Association for an undefined version of the protocol (PS3.8 9.3.2, 9.3.4)."""
    reason = f"protocol version 0x{version:04X} lacks bit 0, which is DICOM's only version"
    return AssociateReject(1, 2, 2, reason, "report it to the maker of the sender")


def local_limit_exceeded(limit: int) -> AssociateReject:
    """Reject, as transient, an Association over the limit."""
    return AssociateReject(
        2, 3, 2, f"more than {limit} associations at once", "wait, or raise node.maximum_associations in the settings"
    )


def limit_of_one_address_exceeded(limit: int) -> AssociateReject:
    """Reject, as transient, an Association over the limit of one address that is not configured."""
    return AssociateReject(
        2,
        3,
        2,
        f"more than {limit} associations at once from one address that is not configured",
        "let it send a study in one Association, not each image in its own, and release each; callers behind one proxy "
        "or router share an address. Or name it in a [[remote]], or raise node.maximum_associations_per_address",
    )


def temporary_congestion() -> AssociateReject:
    """Reject, as transient, an Association that comes while the node stops."""
    return AssociateReject(2, 3, 1, "the node stops", "try again when it runs")


def answer_context(proposed: PresentationContext) -> PresentationContext:
    """Accept or reject one Presentation Context (PS3.8 9.3.3.2)."""
    abstract = str(proposed.abstract_syntax)
    syntaxes = [str(syntax) for syntax in proposed.transfer_syntax]
    answer = PresentationContext()
    answer.context_id = proposed.context_id
    answer.abstract_syntax = proposed.abstract_syntax
    chosen = choose_transfer_syntax(abstract, syntaxes)
    answer.transfer_syntax = [chosen or next(iter(syntaxes), ImplicitVRLittleEndian)]  # not significant when rejected
    if chosen:
        answer.result = ACCEPTED
    else:
        answer.result = _TRANSFER_SYNTAXES_NOT_SUPPORTED if is_supported(abstract) else _ABSTRACT_SYNTAX_NOT_SUPPORTED
    return answer


def choose_transfer_syntax(abstract_syntax: str, proposed: Sequence[str]) -> str | None:
    """Choose one of the proposed Transfer Syntaxes, in the order of the sender's preference.

    Storage accepts any, as nothing is decoded: the first lossless one, else the first.  The other services read and
    write Data Sets, so they accept only native syntaxes.
    """
    if is_storage(abstract_syntax):
        return next((syntax for syntax in proposed if syntax not in LOSSY), next(iter(proposed), None))
    if is_supported(abstract_syntax):
        return next((syntax for syntax in proposed if syntax in NATIVE), None)
    return None


def is_storage(abstract_syntax: str) -> bool:
    """Tell whether a SOP Class is stored: all storage classes of the standard, and all unknown and private ones."""
    if len(abstract_syntax) > _LONGEST_KNOWN_UID:
        return True  # not cached: any caller may propose thousands, of 65,000 characters each
    return _is_storage(abstract_syntax)


@lru_cache(maxsize=1024)
def _is_storage(abstract_syntax: str) -> bool:
    uid = UID(abstract_syntax, IGNORE)
    if not uid.type or not uid.name:  # new or private
        return True
    return uid.type in _CLASSES and "Storage" in uid.name and uid not in _COMMITMENT


def is_supported(abstract_syntax: str) -> bool:
    """Tell whether the node has a service for an Abstract Syntax."""
    return abstract_syntax in _OTHER_SERVICES or is_storage(abstract_syntax)


def answer_role(abstract: str, proposed: SCP_SCU_RoleSelectionNegotiation) -> SCP_SCU_RoleSelectionNegotiation | None:
    """Accept both roles where the requestor may be SCP, else only SCU (PS3.7 D.3.3.4).

    It may be SCP of storage, which C-GET needs, and of Storage Commitment, whose reports may come on another
    Association.

    When no role remains, return None, and the requestor is SCU: the upper layer cannot encode an answer without a role.
    """
    answer = SCP_SCU_RoleSelectionNegotiation()
    answer.sop_class_uid = abstract
    answer.scu_role = bool(proposed.scu_role)
    answer.scp_role = bool(proposed.scp_role) and (abstract == STORAGE_COMMITMENT or is_storage(str(abstract)))
    return answer if answer.scu_role or answer.scp_role else None
