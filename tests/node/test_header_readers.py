"""Processes that read headers for a rebuild: when one dies, its files are read again."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal

import pytest

from backup_scp.node import header_readers
from backup_scp.node.settings import load
from backup_scp.services.rebuild import Folders
from tests.samples import dx, encode
from tests.stored import put_into_archive, stored_in

NUMBER = 24


@pytest.fixture
def settings(tmp_path):
    return load(None, {"BACKUP_SCP_HOME": str(tmp_path)})


@pytest.fixture
def batches(tmp_path) -> list[Folders]:
    with stored_in(tmp_path) as stored:
        held = [put_into_archive(stored.archive, encode(dx(study=str(number)))) for number in range(NUMBER)]
    return [Folders(str(number), [each.location]) for number, each in enumerate(held)]


def kill_readers() -> int:
    children = multiprocessing.active_children()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid or 0, signal.SIGKILL)
    return len(children)


def read(settings, batches, after_each=lambda _: None):
    found = []
    with header_readers.reader(settings) as read_:
        for folders, versions in read_(batches):
            found.append((folders, [version.location for version in versions]))
            after_each(len(found))
    return found


def as_they_are(batches):
    return [(each, each.locations) for each in batches]


def test_they_read_in_order(settings, batches):
    assert read(settings, batches) == as_they_are(batches)


@pytest.mark.parametrize("often", [1, NUMBER])
def test_one_that_dies_ends_nothing(settings, batches, often, caplog):
    """Nor do those that die again and again: after a few all is read without them."""
    killed: list[int] = []

    def kill(number):
        if len([each for each in killed if each]) < often:
            killed.append(kill_readers())

    with caplog.at_level(logging.WARNING):
        assert read(settings, batches, kill) == as_they_are(batches)
    assert any(killed)
    said = [record.message for record in caplog.records if "has ended" in record.message]
    assert 1 <= len(said) <= header_readers._MOST_DEATHS + 1


def test_where_no_process_can_be_started(settings, batches, monkeypatch):
    def no_room(*_args, **_kwargs):
        raise OSError(11, os.strerror(11))

    monkeypatch.setattr("multiprocessing.popen_spawn_posix.Popen", no_room)
    assert read(settings, batches) == as_they_are(batches)
