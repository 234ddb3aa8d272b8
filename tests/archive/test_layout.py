"""Layout: hostile UIDs, one location for each Data Set, and no other text is a location."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backup_scp.archive import layout
from backup_scp.dicom.uids import path_component
from backup_scp.ports import InstanceKey
from tests.archive.examples import KEY

DIGEST = "0123456789ab" + "c" * 52
HOSTILE = [
    *("", ".", "..", "/", "\\", "folder/x", "folder\\x", "\0", "1.2\0", "1.2 ", " 1.2", "1.2\n", "~", "-rf"),
    *("1" * 65, "1." * 149 + "1", ".1.2", "1.2.", "1..2", "x" + "0" * 40, "1.2.٣", "１.２", "é", "\ud800"),
    *("CON", "nul.txt", "COM1", "1.2:stream"),
]

uids = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=300), st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,9}){0,12}", fullmatch=True)
)
keys = st.builds(InstanceKey, uids, uids, uids)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


def test_a_uid_is_its_own_name():
    spread = sha256(b"1.2.3").hexdigest()[:2]
    assert layout.location_of(KEY, DIGEST) == f"{spread}/1.2.3/1.2.3.1/1.2.3.4.0123456789ab.dcm"
    assert layout.location_of(KEY, DIGEST, whole_digest=True) == f"{spread}/1.2.3/1.2.3.1/1.2.3.4.{DIGEST}.dcm"


def test_what_is_no_uid_is_encoded():
    digest = sha256(b"folder/x").hexdigest()
    location = layout.location_of(InstanceKey("folder/x", "", "1.2"), DIGEST)
    empty = sha256(b"").hexdigest()[:40]
    assert location == f"{digest[:2]}/x{digest[:40]}/x{empty}/1.2.0123456789ab.dcm"


@given(keys, digests, st.booleans())
@example(InstanceKey("\0", "/", "1" * 300), DIGEST, True)
def test_a_location_stays_inside(key, digest, whole_digest):
    location = layout.location_of(key, digest, whole_digest=whole_digest)
    assert layout.is_location(location)
    assert len(location) <= layout.LOCATION_LIMIT
    assert location.isascii()
    for path in (PurePosixPath(location), PureWindowsPath(location)):
        assert not path.is_absolute()
        assert len(path.parts) == 4
        assert not {".", ".."} & set(path.parts)
    assert not any(part in ("con", "nul", "com1") for part in location.lower().replace(".", "/").split("/"))


@given(keys, keys, digests)
def test_other_instances_have_other_locations(one, two, digest):
    assert (layout.location_of(one, digest) == layout.location_of(two, digest)) == (one == two)


@given(st.one_of(st.text(), st.from_regex(layout._FILE), st.lists(uids, min_size=4, max_size=4).map("/".join)))
def test_only_what_location_of_makes_is_a_location(text):
    if layout.is_location(text):
        _, study, series, file = text.split("/")
        name, digest, _ = file.rsplit(".", 2)
        assert all(part.startswith("x") or path_component(part) == part for part in (study, series, name))
        assert len(digest) in (12, 64)


@pytest.mark.parametrize("uid", HOSTILE)
@pytest.mark.parametrize("part", range(4))
def test_a_hostile_part_is_no_location(uid, part):
    parts = layout.location_of(KEY, DIGEST).split("/")
    parts[part] = uid
    assert not layout.is_location("/".join(parts)) or uid == "x" + "0" * 40


@pytest.mark.parametrize(
    "change", [str.upper, lambda text: "/" + text, lambda text: text + "\n", lambda text: "00" + text[2:]]
)
def test_a_changed_location_is_none(change):
    assert not layout.is_location(change(layout.location_of(KEY, DIGEST)))


def test_set_aside_is_no_location():
    name = layout.quarantine_name(layout.location_of(KEY, DIGEST), datetime(2026, 11, 21, 20, 24, 56, 7, UTC))
    assert name.endswith("/1.2.3.4.0123456789ab.20261121T202456000007Z.dcm")
    assert not layout.is_location(name)
