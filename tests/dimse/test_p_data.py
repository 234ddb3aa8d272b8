"""Messages encoded as P-DATA-TF PDUs (PS3.8 9.3.5, Annexes D.1 and E)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_scp.dimse.upper_layer import p_data

COMMAND_SET = b"command!" * 5


def read_back(wire: bytes):
    """Return the command, the Data Set, and the size of the longest PDU; the headers must agree with each other."""
    command, data, longest, position = b"", b"", 0, 0
    ended: list[str] = []
    while position < len(wire):
        kind, length, inner, context_id, control = struct.unpack_from(">BxIIBB", wire, position)
        assert (kind, inner, context_id) == (4, length - 4, 7)
        fragment = wire[position + 12 : position + 6 + length]
        assert len(fragment) == inner - 2
        if control & 1:
            assert "data" not in ended
            command += fragment
        else:
            assert ended[0] == "command"
            data += fragment
        if control & 2:
            ended.append("command" if control & 1 else "data")
        else:
            assert len(fragment) % 2 == 0
        longest = max(longest, length)
        position += 6 + length
    assert position == len(wire)
    return command, data, ended, longest


SIZES = st.one_of(st.integers(0, 40), st.integers(0, 5000), st.sampled_from([1 << 20, (1 << 20) + 1, 3_000_001]))
LIMITS = st.sampled_from([0, None, 8, 9, 16, 100, 16384, 131072, 1 << 24])


@given(st.lists(SIZES, max_size=4), LIMITS)
def test_a_data_set_in_parts_comes_out_as_one_message(sizes, limit):
    if limit and limit <= 100:
        sizes = [size % 3000 for size in sizes]
    parts = [bytes([number + 1]) * (size // 2 * 2) for number, size in enumerate(sizes)]
    largest = p_data.largest_fragment(limit)

    written = list(p_data.writes(7, COMMAND_SET, iter(parts), largest))

    command, data, ended, longest = read_back(b"".join(map(b"".join, written)))
    assert (command, data) == (COMMAND_SET, b"".join(parts))
    assert ended == ["command", "data"]
    assert longest <= (limit or 1 << 19)
    assert all(len(pieces) <= 1024 for pieces in written), "the system gathers no more"
    assert all(sum(map(len, pieces)) < 2 << 20 for pieces in written)


def test_the_first_write_has_the_command_and_the_first_of_the_data():
    (only,) = p_data.writes(7, COMMAND_SET, [b"ab"], 100)
    assert read_back(b"".join(only))[:2] == (COMMAND_SET, b"ab")


def test_what_ends_with_an_error_is_not_completed():
    def parts():
        yield b"first."
        yield b"second"
        raise OSError

    wire = bytearray()

    def write_all():
        for pieces in p_data.writes(7, COMMAND_SET, parts(), 100):
            wire.extend(b"".join(pieces))

    with pytest.raises(OSError):
        write_all()
    assert read_back(bytes(wire))[1:3] == (b"first.", ["command"])


@pytest.mark.parametrize("data", [None, b"", b"x" * 1001])
def test_a_message_in_memory(data):
    command, found, ended, longest = read_back(b"".join(p_data.framed(7, COMMAND_SET, data, 30)))
    assert (command, found) == (COMMAND_SET, data or b"")
    assert ended == ["command"] + ["data"] * (data is not None)
    assert longest <= 36
