"""Decide whether to accept an Association, by who calls and how many there are."""

from __future__ import annotations

from backup_scp.dimse.association import negotiation
from backup_scp.dimse.association.acceptance import Acceptance
from backup_scp.dimse.association.access import AccessPolicy, Caller, peer_of
from backup_scp.dimse.association.association_count import SharedCount
from backup_scp.dimse.association.listener import ListenSettings
from backup_scp.dimse.association.negotiation import AssociateReject


def reason_to_reject(
    ours: ListenSettings, policy: AccessPolicy, caller: Caller, asked: Acceptance, *, is_secured: bool
) -> AssociateReject | None:
    """Return why a request is rejected for what it says, or for who calls; None when it may be accepted."""
    if not asked.protocol_version & 1:
        return negotiation.protocol_version_not_supported(asked.protocol_version)
    if not caller.ae_title or not caller.ae_title.isprintable():
        return negotiation.calling_ae_title_not_recognised(caller.ae_title)
    if ours.check_called_ae_title and asked.called != ours.ae_title:
        return negotiation.called_ae_title_not_recognised(asked.called, ours.ae_title, caller.ae_title)
    return _not_as_configured(ours, policy, caller, asked.site, is_secured=is_secured)


def _not_as_configured(
    ours: ListenSettings, policy: AccessPolicy, caller: Caller, site: str, *, is_secured: bool
) -> AssociateReject | None:
    meant = caller.remote or caller.mismatch
    if meant is not None and meant.tls_required and not is_secured:
        return negotiation.tls_required(
            meant.name, ours.reachable_tls_port, asks_for_certificate=bool(meant.certificate)
        )
    if caller.is_refused:
        return negotiation.stranger_refused(policy.fix_of_stranger(caller))
    if site != caller.as_site:
        return negotiation.site_not_brought(site, caller.remote.name if caller.remote else "")
    return None


def limit_exceeded(ours: ListenSettings, places: SharedCount, caller: Caller) -> AssociateReject | None:
    """Return why there is no place for one more Association of this caller; None when there is."""
    limit = ours.maximum_associations + (ours.reserved_associations if caller.is_known else 0)
    if places.total >= limit:
        return negotiation.local_limit_exceeded(limit)
    most = ours.maximum_associations_per_address
    if most and not caller.is_known and places.taken_by(peer_of(caller.address)) >= most:
        return negotiation.limit_of_one_address_exceeded(most)
    return None


def counted_for(caller: Caller) -> str:
    """Return the peer whose limit an Association counts for; empty for a known caller, which has no such limit."""
    return "" if caller.is_known else peer_of(caller.address)
