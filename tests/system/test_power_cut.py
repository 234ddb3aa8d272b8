"""A power cut at any moment: no acknowledged image is lost, no incomplete one is visible, the index is intact.

The long run, with its table, is `make test-power`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.processes import ROOT, clean_environment, wait_until
from tests.samples import ct_series, dx, encode, replace
from tests.system.contents import is_journal, stored_file
from tests.system.intake_journal import use_journal
from tests.system.peers import require
from tests.system.power_cut.call_order import STRACE, read_trace
from tests.system.power_cut.volume import FILE_SYSTEMS
from tests.system.power_cut.workload import CONTEXTS, Console, Ledger, Moment, Senders
from tests.system.pynetdicom_peers import Sink

SEED = 20240131
PROGRAMS = ("mkfs.ext4", "mkfs.xfs", "fusermount3", "eatmydata")


@pytest.fixture
def power_cut():
    """Return `power_cut(...)`: the rows of the table that the harness makes of its arguments."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a power cut needs Linux and root, to mount file systems on loop devices")
    for program in ("unshare", "setpriv", *PROGRAMS):
        require(program)

    def run(*arguments: object) -> list[dict]:
        argv = [sys.executable, "-m", "tests.system.power_cut", "--json", "--seed", str(SEED), *map(str, arguments)]
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=clean_environment(PYTHONPATH=str(ROOT)),
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    return run


def assert_nothing_lost(rows: list[dict]) -> None:
    for row in rows:
        assert not row["troubles"], row
        assert (row["lost"], row["half_written"], row["index_faults"]) == (0, 0, 0), row
    assert sum(row["acknowledged"] for row in rows)


@pytest.mark.parametrize("program", PROGRAMS)
def test_make_installs_what_a_power_cut_needs(program):
    """Debian 12 has e2fsprogs from the start, Debian 13 has not."""
    recipe = (ROOT / "Makefile").read_text().partition("\npeers:")[2].partition("\n\n")[0]
    assert f"command -v {program} " in recipe


@pytest.mark.timeout(600)
@pytest.mark.parametrize("index", ["sqlite", "postgresql"])
@pytest.mark.parametrize("file_system", FILE_SYSTEMS)
def test_power_cuts_at_random_moments(power_cut, file_system, index):
    rows = power_cut("--cycles", 2, "--file-system", file_system, "--index", index)

    assert [(row["associations"], row["cycles"]) for row in rows] == [(1, 1), (4, 1)]
    assert_nothing_lost(rows)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("index", "points"), [("sqlite", [6, 6, 6, 6]), ("postgresql", [4, 4])])
def test_crash_points_of_a_block_log(power_cut, index, points):
    rows = power_cut("--points", sum(points), "--instances", 24, "--associations", 4, "--index", index)

    assert [row["points"] for row in rows] == points
    assert_nothing_lost(rows)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("file_system", "points"), [("ext4", 6), ("xfs", 0)])
def test_a_drive_that_is_being_filled(power_cut, file_system, points):
    """What the index calls copied is on the drive, whole; the next run brings the rest, once, and its lists."""
    rows = power_cut(
        *("--drive", "--cycles", 2, "--points", points, "--instances", 24),
        *("--file-system", file_system, "--index", "sqlite", "--associations", 4),
    )

    assert_nothing_lost(rows)
    for row in rows:
        drive = row["drive"]
        assert (drive["missing"], drive["not_caught_up"], drive["doubled"]) == (0, 0, 0), row


@pytest.mark.timeout(600)
def test_without_the_flush_of_a_drive_there_are_losses(power_cut):
    rows = power_cut(
        *("--drive", "--left-out", "drive", "--points", 6, "--instances", 24),
        *("--file-system", "ext4", "--index", "sqlite", "--associations", 4),
    )

    assert [row["lost"] for row in rows] == [0, 0]
    assert sum(row["drive"]["missing"] for row in rows)


@pytest.mark.timeout(600)
def test_a_home_that_is_being_recovered(power_cut):
    """What the home says is here is whole, and the same command goes on until everything is."""
    rows = power_cut("--recovery", "--cycles", 2, "--points", 4, "--file-system", "ext4")

    assert [row.get("cycles") or row["points"] for row in rows] == [2, 4]
    assert_nothing_lost(rows)


@pytest.mark.timeout(600)
def test_without_the_flush_of_what_comes_back_there_are_losses(power_cut):
    (row,) = power_cut("--recovery", "--left-out", "return", "--points", 4, "--file-system", "ext4")

    assert row["half_written"] + row["lost"]


@pytest.mark.timeout(600)
def test_without_fsync_both_find_losses(power_cut):
    """The harness sees what it is there to see: the same node, whose fsync does nothing."""
    rows = power_cut(
        *("--without-fsync", "--file-system", "ext4", "--index", "sqlite", "--associations", 4),
        *("--cycles", 1, "--points", 4),
    )

    assert len(rows) == 3
    for row in rows:
        assert row["lost"], row


@pytest.mark.timeout(600)
def test_without_the_wait_before_the_answer_there_are_losses(power_cut):
    """Nothing else makes an image durable in its first second; later the checkpoint does."""
    rows = power_cut(
        *("--left-out", "wait", "--file-system", "ext4", "--index", "sqlite", "--associations", 4),
        *("--cycles", 4, "--points", 8),
    )

    assert sum(row["lost"] for row in rows)


@pytest.mark.timeout(60)
def test_senders_give_up_where_everything_is_refused():
    """Else the harness would not end."""
    moment = Moment(acknowledgements=1)
    with Sink(dict(CONTEXTS), lambda _: 0xA700) as sink:
        senders = Senders(sink, [Console("refused", largest=10_000)], Ledger(), moment)
        moment.wait()
        with pytest.raises(AssertionError, match="50 times in a row, at last with A700"):
            senders.join()


@pytest.mark.timeout(600)
def test_what_was_flushed_before_a_shutdown_is_kept(power_cut):
    """The tool alone, without a node: it drops only writes that were flushed during the shutdown."""
    rows = power_cut("--shutdowns", 5)

    assert [(row["file_system"], row["shutdowns"]) for row in rows] == [("ext4", 5), ("xfs", 5)]
    assert all(row["before"] for row in rows)
    assert [row["lost"] for row in rows] == [0, 0]


@pytest.mark.parametrize("size", [10_000, 2_000_000])
def test_what_the_answer_promises_is_flushed_before_it(make_node, tmp_path, size):
    """The strict reading of POSIX: bytes, each name and each folder's name, up to one that was there before.

    Of a small image in the journal, of a large one under its staged name; when the node has stopped, in their places.
    """
    home = tmp_path / "made" / "by" / "the node"
    node = make_node(env={"BACKUP_SCP_HOME": str(home)})
    node.home = home
    trace = tmp_path / "trace"
    node.process.argv[:0] = [*STRACE, "-o", str(trace)]
    require("strace")
    node.start()
    use_journal(node)
    sample = encode(replace(dx(), PixelData=bytes(size)))

    assert node.send([sample])[0].status == 0

    file = stored_file(node, sample)
    node.stop()
    ended = re.compile(rf"^{node.pid} +\+\+\+ exited", re.MULTILINE)
    wait_until(lambda: ended.search(trace.read_text(errors="replace")), what="the end of the trace")
    calls = read_trace(trace)
    staged = calls.linked[file]
    journals = [path for path in calls.written if path.parent == staged.parent and is_journal(path)]
    holding = journals if size < 64 << 10 else [staged]
    assert holding
    assert list(calls.not_durable(*holding, home / "index.sqlite")) == []
    assert {*home.parents[:2], home, home / "archive"} <= set(calls.made)
    at_the_end = read_trace(trace, to_its_end=True)
    needed = (file, home / "index.sqlite", home / "index.sqlite-wal")
    assert set(needed) <= {*at_the_end.made, *at_the_end.written}
    assert list(at_the_end.not_durable(*needed)) == []


@pytest.mark.parametrize(("size", "count", "more"), [(10_000, 100, 0), (2_000_000, 30, 1)])
def test_each_image_waits_once_for_the_disk(make_node, tmp_path, size, count, more):
    """Counted by strace in the thread of the association; the names of 64 staged files are flushed at once."""
    node = make_node()
    trace = tmp_path / "trace"
    node.process.argv[:0] = [*STRACE, "-o", str(trace)]
    require("strace")
    node.start()
    use_journal(node)
    samples = [encode(replace(image, PixelData=bytes(size))) for image in ct_series(count)]

    before = len(trace.read_text(errors="replace"))

    assert [answer.status for answer in node.send(samples)] == [0] * count

    text = trace.read_text(errors="replace")[before:]
    answers = Counter(line.split()[0] for line in text.splitlines() if " sendto(" in line)
    (thread, _), *_ = answers.most_common(1)
    waits = re.findall(rf"^{thread} +(?:fsync|fdatasync|syncfs)\(", text, re.MULTILINE)
    assert len(waits) == count + more
