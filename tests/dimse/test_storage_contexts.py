"""The Presentation Contexts that are proposed to a destination (PS3.8 9.3.2.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_scp.dimse.scu.storage_contexts import propose
from tests.dimse.test_storage_scu import held
from tests.dimse.wire import BIG_ENDIAN, CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT

DX = "1.2.840.10008.5.1.4.1.1.1.1"
JPEG = "1.2.840.10008.1.2.4.50"


def flat(proposals):
    return [[(abstract, *transfers) for abstract, transfers in proposal] for proposal in proposals]


def test_each_stored_syntax_alone_and_the_native_ones():
    assert flat(propose([held(), held(syntax=JPEG), held(DX, BIG_ENDIAN)])) == [
        [
            (CT_IMAGE_STORAGE, EXPLICIT),
            (CT_IMAGE_STORAGE, JPEG),
            (CT_IMAGE_STORAGE, IMPLICIT),
            (DX, BIG_ENDIAN),
            (DX, EXPLICIT),
            (DX, IMPLICIT),
        ]
    ]


def test_nothing_to_send_proposes_nothing():
    assert propose([]) == [[]]


def test_more_than_128_contexts_are_several_associations():
    proposals = propose([held(f"1.2.{n}") for n in range(1, 101)])
    assert [len(proposal) for proposal in proposals] == [128, 72]


def test_one_sop_class_in_more_syntaxes_than_there_are_contexts():
    (proposal,) = flat(propose([held(syntax=f"1.2.3.{n}") for n in range(1, 301)]))
    assert len(proposal) == 128
    assert proposal[-2:] == [(CT_IMAGE_STORAGE, EXPLICIT), (CT_IMAGE_STORAGE, IMPLICIT)]


def test_odd_sop_classes_come_last_and_alone():
    long = "1.2." + "3" * 90
    proposals = flat(propose([held(long), held("1.2.abc"), held(), held(""), held("1.é")]))
    assert [{abstract for abstract, _ in proposal} for proposal in proposals] == [
        {CT_IMAGE_STORAGE},
        {long},
        {"1.2.abc"},
    ]


@pytest.mark.parametrize("syntax", ["", "1.2." + "3" * 80, "no uid", "é"])
def test_an_odd_transfer_syntax_is_not_proposed(syntax):
    assert flat(propose([held(syntax=syntax)])) == [[(CT_IMAGE_STORAGE, EXPLICIT), (CT_IMAGE_STORAGE, IMPLICIT)]]


UIDS = st.one_of(
    st.sampled_from([CT_IMAGE_STORAGE, DX, EXPLICIT, JPEG]),
    st.from_regex(r"1\.[1-9]{1,4}", fullmatch=True),
    st.text(max_size=70),
)


@given(st.lists(st.builds(held, UIDS, UIDS), max_size=300))
def test_any_instances_can_be_proposed(instances):
    proposals = propose(instances)
    places: dict[str, set[int]] = {}
    for number_of, proposal in enumerate(proposals):
        assert len(proposal) <= 128
        for abstract, transfers in proposal:
            assert len(transfers) == 1
            places.setdefault(abstract, set()).add(number_of)
    assert all(len(numbers) == 1 for numbers in places.values())
    assert set(places) == {one.sop_class_uid for one in instances if one.sop_class_uid and one.sop_class_uid.isascii()}
