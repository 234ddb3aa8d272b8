"""A lost or damaged index, in every way that a file can be: the node notices, and rebuilds it by itself."""

from __future__ import annotations

import pytest

from tests.processes import wait_until
from tests.samples import ct_series, dx, encode, one_of_each
from tests.system.contents import digests, visible
from tests.system.test_rebuild import rows


def index_of(node):
    return node.home / "index.sqlite"


def delete(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3 // 4096 * 4096])


def cut_off(path):
    path.write_bytes(path.read_bytes()[:50])


def overwrite(path):
    path.write_bytes(b"this was a database once " * 4000)


def break_pages(path):
    content = bytearray(path.read_bytes())
    content[4096:] = b"this was a page once " * (len(content) // 21)
    path.write_bytes(content)


def wait_until_whole(node):
    wait_until(lambda: "rebuilt" in node.json("status", exit_code=None)["tasks"], what="the index being made anew")


@pytest.fixture
def filled(make_node):
    """Return a stopped node with a day's images, and the rows of its index."""
    node = make_node(settings={"verify": {"full_pass_days": 0}})
    node.start()
    assert {a.status for a in node.send([*map(encode, one_of_each("1")), *map(encode, ct_series(30, study="2"))])} == {
        0
    }
    node.stop()
    assert not list(node.home.glob("index.sqlite-*"))
    return node, rows(node)


@pytest.mark.parametrize("damage", [delete, empty, truncate, cut_off, overwrite, break_pages])
def test_it_is_noticed_at_the_start_set_aside_and_made_anew(filled, damage):
    node, before = filled
    damage(index_of(node))
    damaged = index_of(node).read_bytes() if index_of(node).exists() else b""

    node.start()
    late = encode(dx(study="late"))
    assert node.send([late])[0].status == 0  # which does not wait for the rebuild

    wait_until_whole(node)
    node.stop()
    after = rows(node)
    assert len(after["version"]) == len(before["version"]) + 1
    for table, said in before.items():
        assert set(said) < set(after[table])
    assert "The index was lost. " in node.output
    aside = list(node.home.glob("index.sqlite.damaged-*Z"))
    assert [path.read_bytes() for path in aside] == ([damaged] if damaged else [])


def test_a_first_start_is_no_loss(start_node):
    node = start_node()
    assert "lost" not in node.output
    assert "Attention" not in node.output
    assert node.json("status", exit_code=None)["tasks"] == {}


@pytest.mark.parametrize("damage", [delete, break_pages])
def test_it_is_noticed_while_the_node_runs(filled, damage):
    """Nothing is acknowledged that the index does not know; a moment later all goes on."""
    node, before = filled
    node.start()
    damage(index_of(node))
    acknowledged = 0
    samples = map(encode, ct_series(2000, study="3"))

    def stored() -> bool:
        nonlocal acknowledged
        acknowledged += node.send([next(samples)])[0].status == 0
        return acknowledged > 1 and "rebuilt" in node.json("status", exit_code=None)["tasks"]

    wait_until(stored, what="the index being made anew")
    node.stop()
    assert len(digests(visible(node))) >= len(before["version"]) + acknowledged
    assert len(rows(node)["version"]) >= len(before["version"]) + acknowledged
    assert not node.json("verify")["unindexed"]


@pytest.mark.parametrize("first", ["status", "check", "find"])
def test_it_is_made_anew_whoever_opens_it_first(filled, first):
    """The command makes an empty one, which is neither gone nor damaged: the node notices all the same."""
    node, before = filled
    node.start()
    for _ in range(2):
        for path in node.home.glob("index.sqlite*"):
            path.unlink()
        node.cli(first, exit_code=None)

        def is_whole() -> bool:
            said = node.json("status", exit_code=None)
            return said["holdings"]["versions"] == len(before["version"]) and "rebuild" not in said["tasks"]

        wait_until(is_whole, what="the index being made anew")
    node.stop()
    assert rows(node) == before


def test_a_rebuild_goes_on_after_a_kill(filled):
    node, before = filled
    delete(index_of(node))
    node.start()
    node.kill()  # at whatever it was doing
    node.start()
    wait_until_whole(node)
    node.stop()
    assert rows(node) == before
