"""Several processes of one node: any may accept a caller, none is lost, and they end together."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import connects, wait_until
from tests.samples import ct_series, dx, encode
from tests.system import raw_sender
from tests.system.contents import assert_index_equals_files, digests, staged, visible
from tests.system.raw_sender import contexts_of


def workers(node, count: int = 2) -> list[int]:
    """Return the process IDs, in the order of their start, once there are so many and each is ready."""

    def ready() -> list[int]:
        children = sorted(map(int, Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()))
        are_ready = all(f"Process {child} is ready" in node.output for child in children)
        return children if are_ready and len(children) == count else []

    return wait_until(ready, what=f"{count} processes")


@pytest.fixture
def pair(start_node):
    return start_node(settings={"node": {"workers": 2, "maximum_associations": 2, "reserved_associations": 0}})


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(") ")[2][0]


@contextlib.contextmanager
def stopped(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        wait_until(lambda: {_state(thread) for thread in Path(f"/proc/{process}/task").iterdir()} == {"T"})
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_each_serves_and_they_count_together(pair):
    first, second = workers(pair)
    with contextlib.ExitStack() as held:
        with stopped(second):
            held.enter_context(raw_sender.Association(pair)).echo()
        with stopped(first):
            held.enter_context(raw_sender.Association(pair)).echo()
            with pytest.raises(raw_sender.AssociationRefusedError):
                raw_sender.Association(pair)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_many_senders_at_once_into_one_study(start_node, make_node, request, engine):
    index = {}
    if engine == "postgresql":
        index = {"index": {"url": request.getfixturevalue("postgres_url")}}
    node = make_node(settings={"node": {"workers": 3}} | index)
    if index:
        node.cli("db", "upgrade")
    node.start()
    samples = [encode(ds) for ds in ct_series(48)]

    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda k: node.send(samples[k::8] + samples[:2], calling="CT"), range(8)))

    assert {answer.status for each in answers for answer in each} == {0}
    assert digests(visible(node)) == {sample.sha256: 1 for sample in samples}
    node.stop()
    assert_index_equals_files(node)


def test_one_that_is_killed_is_replaced_and_takes_nothing_with_it(pair):
    first, second = workers(pair)
    held, lost = encode(dx(number=1)), encode(dx(number=2))
    with stopped(first):
        sender = raw_sender.Association(pair, contexts_of(held))
        assert sender.store(held).status == 0
        sender.begin_store(lost)
        sender.send_data(lost, lost.data_set[:1000])
    os.kill(second, signal.SIGKILL)
    sender.socket.close()

    wait_until(lambda: second not in workers(pair), what="another in its place")
    with stopped(first):
        assert pair.send([lost])[0].status == 0
    assert digests(visible(pair)) == {held.sha256: 1, lost.sha256: 1}
    assert staged(pair) == []


def test_one_that_is_told_to_stop_leaves_the_ports_to_the_others(pair):
    first, second = workers(pair)
    os.kill(second, signal.SIGTERM)
    wait_until(lambda: second not in workers(pair), what="another in its place")
    _, third = workers(pair)
    for process in (first, third):
        with stopped(process):
            assert pair.echo()


def test_a_child_that_is_not_one_of_them_ends_nothing(make_node):
    node = make_node(settings={"node": {"workers": 2}})
    node.process.argv[:] = ["sh", "-c", 'true & exec "$@"', "sh", *node.process.argv]  # as a container's script does
    node.start()
    assert len(workers(node)) == 2
    assert node.echo()
    node.stop()


def test_without_the_one_that_they_came_of_they_end(pair):
    processes = workers(pair)
    pair.kill()
    wait_until(lambda: not any(Path(f"/proc/{each}").exists() for each in processes), what="the end of all")
    assert not connects(pair.port)


def test_a_start_that_fails_is_told_as_by_one_process(make_node, node):
    taken = make_node(settings={"node": {"port": node.port, "workers": 2}}).cli("serve", exit_code=None)
    assert taken.returncode
    assert "Is backup-scp already running?" in taken.stderr


def test_a_log_file_cannot_be_shared(make_node):
    told = make_node(settings={"node": {"workers": 2}, "log": {"file": "node.log"}}).cli("serve", exit_code=None)
    assert told.returncode
    assert "[log] file" in told.stderr
