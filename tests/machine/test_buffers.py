"""Memory that is limited and used again."""

from __future__ import annotations

import contextlib

from backup_scp.machine.buffers import Buffers, Memory

LONG, SHORT = 1 << 20, 1 << 18


def test_a_long_buffer_is_used_again():
    buffers = Buffers(LONG, 2, SHORT)
    with buffers.lent(LONG) as first:
        pass
    with buffers.lent(2 * LONG) as second:
        assert second.obj is first.obj
        assert len(second) == LONG


def test_nobody_else_gets_a_buffer_that_is_lent():
    buffers = Buffers(LONG, 2, SHORT)
    with buffers.lent(LONG) as first, buffers.lent(LONG) as second:
        assert first.obj is not second.obj


def test_many_borrowers_have_only_so_many_long_ones():
    buffers = Buffers(LONG, 2, SHORT)
    with contextlib.ExitStack() as stack:
        lent = [stack.enter_context(buffers.lent(LONG)) for _ in range(9)]
        assert [len(buffer) for buffer in lent] == [LONG] * 2 + [SHORT] * 7
    with buffers.lent(LONG) as again:
        assert len(again) == LONG


def test_who_needs_little_takes_no_long_one():
    buffers = Buffers(LONG, 1, SHORT)
    with buffers.lent(100) as little, buffers.lent(LONG) as long:
        assert (len(little), len(long)) == (100, LONG)


def test_memory_is_given_up_to_a_limit():
    memory = Memory(100, 60)
    rooms = [memory.take(size) for size in (61, 60, 50, 40)]
    assert [room.content and len(room.content) for room in rooms] == [None, 60, None, 40]
    for _ in range(2):
        rooms[1].give_back()
    assert memory.take(60).content is not None
    assert memory.take(1).content is None
