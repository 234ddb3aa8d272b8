"""Which SOP Classes are refused in an accepted Association, with what to do, and what settles it."""

from __future__ import annotations

import pytest

from backup_scp.dimse.association.context_refusals import MOST_REFUSALS
from backup_scp.ports import ServiceKind
from tests.dimse.wire import CT_IMAGE_STORAGE, IMPLICIT, VERIFICATION, Peer

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
JPEG = "1.2.840.10008.1.2.4.70"


@pytest.fixture
def refused(server):
    """Propose contexts; return SOP Class and fix of each that was noted as refused."""

    def propose(*contexts):
        server.rejections.clear()
        with Peer.associated(server.port, contexts) as peer:
            peer.release()
        return {noted[2]: noted[5] for noted in server.rejections if noted[0] is ServiceKind.CONTEXT}

    return propose


def test_a_service_that_we_do_not_have(refused):
    (fix,) = refused((VERIFICATION, (IMPLICIT,)), (WORKLIST, (IMPLICIT,))).values()
    assert "enter the RIS as its worklist server" in fix


def test_a_syntax_that_we_do_not_read(refused):
    (fix,) = refused((FIND, (JPEG,))).values()
    assert "Implicit VR Little Endian" in fix


def test_one_of_several_contexts_of_a_class_is_enough(refused):
    assert refused((FIND, (JPEG,)), (FIND, (IMPLICIT,)), (CT_IMAGE_STORAGE, (JPEG,))) == {}


def test_who_proposes_all_that_exists_is_noted_a_few_times(refused):
    many = [(f"{WORKLIST}.{number}", (IMPLICIT,)) for number in range(3)]
    services = [(f"1.2.840.10008.5.1.4.34.{number}", (IMPLICIT,)) for number in range(1, 12)]
    assert len(refused((VERIFICATION, (IMPLICIT,)), *many, *services)) <= MOST_REFUSALS
