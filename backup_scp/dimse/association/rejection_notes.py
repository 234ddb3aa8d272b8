"""Record why callers were rejected, with the fix for each, and log each reason once."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

from backup_scp.dimse.association.access import Caller, plain_address
from backup_scp.dimse.association.association_audit import audit_of
from backup_scp.dimse.association.request_dispatch import note_rejection
from backup_scp.dimse.upper_layer.tls_faults import why_not_secured
from backup_scp.ports import RejectionRecorder, ServiceKind
from backup_scp.services.audit_reporter import AuditReporter

if TYPE_CHECKING:
    from backup_scp.dimse.association.acceptance import Acceptance
    from backup_scp.dimse.association.association import Association
    from backup_scp.dimse.association.negotiation import AssociateReject

log = logging.getLogger(__name__)

_NO_THREAD = ("no thread is free to serve it", "raise the limits on threads and memory that the system sets the node")
_FAULT = "check the log of the node, and its memory"
_OTHER_VIOLATION = "compare its settings with host and port of this node; if they are right, report it to its maker"
_VIOLATIONS = (
    ("TLS to a port", "{tls}"),
    ("HTTP", "it belongs to the port of [web], where viewers and browsers call; this port is for consoles"),
    ("HL7", "HL7 messages belong to the RIS or its interface; this port is for consoles"),
    ("SSH", "another program calls the wrong port: correct its settings"),
    (
        "a header of the PROXY protocol",
        "add the address of the proxy to proxies in [node], or switch off send-proxy-v2 there",
    ),
    (" Presentation Contexts", "let it propose at most 128 Presentation Contexts: fewer SOP Classes or syntaxes"),
)


def fix_of_violation(violation: str, tls_port: int) -> str:
    """Return what to do about a caller that broke the protocol in this way; 0 for no port with TLS."""
    tls = f"let it call port {tls_port}, which has TLS" if tls_port else "switch off TLS for this node there"
    fix = next((fix for words, fix in _VIOLATIONS if words in violation), _OTHER_VIOLATION)
    return fix.format(tls=tls)


class RejectionNotes:
    """Records rejections and what settles them; safe to share between threads.

    Parameters
    ----------
    rejections
        Counts them for ``status``.
    reporter
        Reports them to the audit trail.
    """

    def __init__(self, rejections: RejectionRecorder, reporter: AuditReporter) -> None:
        self._rejections = rejections
        self._reporter = reporter

    def nobody(self, address: str) -> Caller:
        """Return a caller of which only the address is known."""
        return Caller("", plain_address(address), None, is_this_machine=False)

    def no_thread(self, address: str) -> None:
        """Record a caller for which no thread was free."""
        caller = self.nobody(address)
        level = note_rejection(self._rejections, ServiceKind.ASSOCIATION, caller, "", *_NO_THREAD)
        log.log(level, "A caller at %s was rejected: %s; %s", caller.address, *_NO_THREAD)

    def fault(self, error: str) -> None:
        """Record that a caller was lost through an error in the node."""
        reason = f"it was lost through an error in the node ({error})"
        self._rejections.rejected(ServiceKind.ASSOCIATION, "", "", "an unknown address", reason, _FAULT)

    def not_opened(self, address: str, reason: str, fix: str) -> None:
        """Record why a connection was closed before its Association."""
        self._not_begun(ServiceKind.ASSOCIATION, address, reason, fix)

    def not_secured(self, address: str, error: ssl.SSLError) -> None:
        """Record why the TLS handshake with a caller failed."""
        self._not_begun(ServiceKind.TLS, address, *why_not_secured(error))

    def _not_begun(self, kind: ServiceKind, address: str, reason: str, fix: str) -> None:
        caller, is_tls = self.nobody(address), kind is ServiceKind.TLS
        level = note_rejection(self._rejections, kind, caller, "", reason, fix)
        told = f"TLS with {caller.address} failed" if is_tls else f"A connection of {caller.address} was closed"
        log.log(level, "%s: %s; %s", told, reason, fix)
        if level > logging.DEBUG:
            audit_of(self._reporter, caller).rejected(f"TLS failed: {reason}" if is_tls else reason)

    def secured(self, address: str) -> None:
        """Settle failed handshakes of this address."""
        self._rejections.succeeded(ServiceKind.TLS, "", plain_address(address))

    def violation(self, association: Association, caller: Caller, tls_port: int) -> None:
        """Record the violation for which an Association was aborted, if there was one."""
        if violation := association.upper_layer.violation:
            called, reason, fix = (
                association.called_ae_title,
                f"it sent {violation}",
                fix_of_violation(violation, tls_port),
            )
            level = note_rejection(self._rejections, ServiceKind.ASSOCIATION, caller, called, reason, fix)
            if level > logging.DEBUG:
                association.audit.rejected(reason)

    def rejected(self, association: Association, called: str, rejection: AssociateReject) -> None:
        """Record an A-ASSOCIATE-RJ."""
        caller, reason, fix = association.caller, rejection.reason, rejection.fix
        level = note_rejection(self._rejections, ServiceKind.ASSOCIATION, caller, called, reason, fix)
        log.log(level, "Association from %s rejected: %s; %s", caller, reason, fix)
        if level > logging.DEBUG:  # a flood of the same is counted for ``status``, and not written
            association.audit.rejected(reason)

    def accepted(self, caller: Caller, acceptance: Acceptance) -> None:
        """Settle what an accepted Association settles, and record the contexts that were refused in it."""
        self._rejections.succeeded(ServiceKind.ASSOCIATION, caller.ae_title, caller.address)
        for sop_class in acceptance.services:
            self._rejections.succeeded(ServiceKind.CONTEXT, caller.ae_title, caller.address, sop_class)
        for oddity in acceptance.oddities:
            log.info("%s proposes %s; accepted nevertheless", caller, oddity)
        for refusal in acceptance.refusals:
            level = note_rejection(
                self._rejections, ServiceKind.CONTEXT, caller, refusal.sop_class_uid, refusal.reason, refusal.fix
            )
            log.log(level, "Presentation Context of %s refused: %s; %s", caller, refusal.reason, refusal.fix)

    def ended(self, association: Association, *, is_released: bool, is_silent: bool, is_idle: bool) -> None:
        """Record an Association that its caller left open, and settle what its end settles."""
        caller, tally = association.caller, association.tally
        if (tally.stored or tally.held) and not tally.refused_to_store:
            self._rejections.succeeded(ServiceKind.STORE, caller.ae_title, caller.address)
        if is_released:
            self._rejections.succeeded(ServiceKind.RELEASE, caller.ae_title, caller.address)
        if is_silent:
            reason, fix = _silence(association, is_idle=is_idle)
            called = association.called_ae_title
            note_rejection(self._rejections, ServiceKind.RELEASE, caller, called, reason, fix)


def _silence(association: Association, *, is_idle: bool) -> tuple[str, str]:
    layer = association.upper_layer
    if is_idle:
        return (
            f"it left the Association open without a word for {layer.idle_timeout_s:g} s",
            "let it release each Association after the last image; nothing is lost",
        )
    return (
        f"it stopped in the middle of a message for {layer.network_timeout_s:g} s",
        "check its network cable or Wi-Fi, and the switches in between; it must send the image again",
    )
