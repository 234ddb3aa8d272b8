"""A site that an Association names: what is written is read, by us alone, and pynetdicom reads the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from backup_scp.dimse.association.acceptance import accept
from backup_scp.dimse.upper_layer import requestor
from backup_scp.dimse.upper_layer.named_site import is_answered, site_of
from tests.dimse.wire import IMPLICIT, VERIFICATION

PLAIN = requestor._Asked("US", "THEM", ((VERIFICATION, (IMPLICIT,)),), (), 16384, "")


def encoded(site: str) -> bytes:
    return requestor._encoded(replace(PLAIN, as_site=site))


@pytest.mark.parametrize("site", ["north", "Klinik Süd", "北", "x" * 64, "🏥" * 64])
def test_what_is_named_is_read_and_answered(site):
    request = encoded(site)
    assert site_of(request) == site
    acceptance = accept(request, 16384)
    assert (acceptance.site, is_answered(acceptance.answer)) == (site, True)
    assert requestor._decoded(PLAIN, acceptance.answer).takes_site


def test_without_a_site_nothing_is_named_and_nothing_answered():
    acceptance = accept(encoded(""), 16384)
    assert (acceptance.site, is_answered(acceptance.answer)) == ("", False)
    assert not requestor._decoded(PLAIN, acceptance.answer).takes_site


def test_another_toolkit_reads_both():
    request, answer = A_ASSOCIATE_RQ(), A_ASSOCIATE_AC()
    request.decode(encoded("north"))
    (identity,) = (one for one in request.to_primitive().user_information if isinstance(one, UserIdentityNegotiation))
    assert (identity.user_identity_type, identity.primary_field) == (1, b"backup-scp-site:north")
    answer.decode(accept(encoded("north"), 16384).answer)
    assert answer.to_primitive().result == 0


@pytest.mark.parametrize(("kind", "name"), [(1, b"radiologist"), (2, b"backup-scp-site:north"), (1, b"")])
def test_other_identities_are_ignored(kind, name):
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(encoded(""))
    primitive = pdu.to_primitive()
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = kind, name or b"x"
    if kind == 2:
        identity.secondary_field = b"secret"
    primitive.user_information = [*primitive.user_information, identity]
    acceptance = accept(A_ASSOCIATE_RQ(primitive).encode(), 16384)
    assert (acceptance.site, is_answered(acceptance.answer)) == ("", False)
