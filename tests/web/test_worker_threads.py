"""Functions in threads while the event loop goes on."""

from __future__ import annotations

import asyncio
import threading

import pytest

from backup_scp.web.worker_threads import in_thread


def test_it_returns_and_raises_what_the_function_does():
    async def both() -> int:
        with pytest.raises(LookupError):
            await in_thread(dict[str, int]().__getitem__, "x")
        return await in_thread(sum, [2, 3])

    assert asyncio.run(both()) == 5


def test_it_runs_beside_the_event_loop():
    async def names() -> tuple[str, str]:
        return threading.current_thread().name, (await in_thread(threading.current_thread)).name

    here, there = asyncio.run(names())
    assert here != there


def test_what_is_cancelled_ends_after_the_function():
    began, may_end, order = threading.Event(), threading.Event(), list[str]()

    def function() -> None:
        began.set()
        may_end.wait(60)
        order.append("function")

    async def cancelled() -> None:
        task = asyncio.ensure_future(in_thread(function))
        await in_thread(began.wait, 60)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        order.append("task")

    asyncio.run(cancelled())
    assert order == ["function", "task"]
