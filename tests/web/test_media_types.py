"""Accept headers, as clients write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from backup_scp.web import media_types
from backup_scp.web.media_types import MediaType, Offer, choose, in_order, parse, parse_one
from backup_scp.web.problems import Problem

FRAMES = Offer("multipart/related", "application/octet-stream")
JSON = Offer("application/dicom+json")
XML = Offer("multipart/related", "application/dicom+xml")


def request(*accepts: str, query: str = "") -> Request:
    headers = [(b"accept", accept.encode("latin-1")) for accept in accepts]
    return Request({"type": "http", "headers": headers, "query_string": query.encode()})


@pytest.mark.parametrize(
    "text",
    [
        'multipart/related; type="application/octet-stream"; transfer-syntax="*"',  # OHIF
        "multipart/related; type=application/octet-stream; transfer-syntax=*",  # cornerstone
        'Multipart/Related;Type="application/octet-stream";Transfer-Syntax=*',
        ' multipart/related ;\ttype = "application/octet-stream" ; transfer-syntax = "*" ; ',
    ],
)
def test_quoted_or_not(text):
    (found,) = parse(text)
    assert (found.name, found.root, found.transfer_syntax, found.q) == (
        "multipart/related", "application/octet-stream", "*", 1,
    )  # fmt: skip


def test_several_with_their_order():
    found = parse('text/html, application/dicom+json;q=0.9,*/*;q=0.1, application/json; a="x,y;z\\"";q=0.9')
    assert [(each.name, each.q) for each in found] == [
        ("text/html", 1), ("application/dicom+json", 0.9), ("*/*", 0.1), ("application/json", 0.9),
    ]  # fmt: skip
    assert found[3].parameters == {"a": 'x,y;z"'}
    assert [each.name for each in in_order(found)] == [
        "text/html", "application/json", "application/dicom+json", "*/*",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", " ", ",", ", ,"])
def test_none(text):
    assert parse(text) == ()
    assert media_types.accepted(request(text)) == (MediaType("*/*"),)


@pytest.mark.parametrize(
    "text",
    [
        "application", "application/", "/dicom", "a b/c", "a/b c", "a/b;q=2", "a/b;q=x", "a/b;q=-1", 'a/b;c="', "é/x",
        "a/b;" * 5000, ",".join(["a/b"] * 100), "a/b\x00", "a/b; c=d e",
    ],
)  # fmt: skip
def test_nonsense_is_400(text):
    with pytest.raises(Problem) as raised:
        parse(text)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/dicom+json", JSON),
        ("application/dicom+xml", None),
        ('multipart/related; type="application/dicom+xml"', XML),
        ("multipart/related; type=application/*", XML),
        ("multipart/related", XML),
        ("multipart/*", XML),
        ('multipart/related; type="application/dicom"', None),
        ("image/jpeg", None),
        ("application/dicom+json;q=0.5, multipart/related;q=0.6", XML),
        ("application/dicom+json;q=0, */*", XML),
        ("application/dicom+json;q=0", None),
        ("*/*;q=0.1, application/dicom+json;q=0.5", JSON),
    ],
)
def test_what_is_chosen(accept, chosen):
    assert choose(parse(accept), (JSON, XML)) == chosen


def test_the_query_parameter_counts_before_the_header():
    asked = request("application/dicom+json", query="accept=multipart/related%3Btype%3Dapplication/dicom%2Bxml")
    assert media_types.require(asked, (JSON, XML)) == XML


def test_several_headers_are_one_list():
    assert [each.name for each in media_types.accepted(request("a/b;q=0.5", "c/d"))] == ["c/d", "a/b"]


def test_what_cannot_be_sent_is_406_and_lists_what_can():
    with pytest.raises(Problem) as raised:
        media_types.require(request("image/jpeg"), (JSON, FRAMES))
    assert raised.value.status == 406
    assert 'application/dicom+json, or as multipart/related; type="application/octet-stream"' in raised.value.detail


def test_one_for_a_content_type():
    found = parse_one('multipart/related; type="application/dicom"; boundary="a;b,c"')
    assert (found.is_multipart, found.root, found.parameters["boundary"]) == (True, "application/dicom", "a;b,c")
    with pytest.raises(Problem):
        parse_one("a/b, c/d")


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_any_text_is_parsed_or_400(text):
    with contextlib.suppress(Problem):
        parse(text)
