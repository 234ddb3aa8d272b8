"""While the index of a drive is on its way, queries and retrieves are answered by it where it lies."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from backup_scp.node import answering_early as early
from backup_scp.node.recovering import RecoverySource, open_source
from backup_scp.node.settings import load
from tests.system.peers import findscu, movescu
from tests.system.test_recover import SAMPLES, Clinic, files


@pytest.fixture
def clinic(tmp_path, make_node) -> Clinic:
    return Clinic(tmp_path, make_node)


@pytest.fixture
def node(clinic, monkeypatch, start_storescp):
    """Yield an empty node that answers by the index of the clinic's drive."""
    clinic.copy(SAMPLES)
    clinic.lose()
    node = clinic.empty(remotes=[start_storescp().remote])
    node.write_settings()
    monkeypatch.setattr(early, "_WORTH_BYTES", 0)
    for name, value in node.env.items():
        monkeypatch.setenv(name, value)
    settings, source = load(node.config), RecoverySource(str(clinic.drive))
    with ExitStack() as stack:
        place = stack.enter_context(open_source(settings, source))
        assert stack.enter_context(early.answering_early(settings, place, source))
        yield node


def test_it_finds_and_sends_and_stores_nothing(clinic, node):
    before = sorted(path.name for path in (clinic.drive / "BACKUPSC").iterdir())
    found = findscu(node, "STUDY", {"StudyInstanceUID": "", "ModalitiesInStudy": "DX"})
    assert len(found) == 4
    moved = movescu(node, node.remotes[0].ae_title, "STUDY", {"StudyInstanceUID": found[0].StudyInstanceUID})
    assert moved.completed == len(files(node)) > 0
    assert (moved.status, moved.failed) == (0, 0)
    assert node.send([SAMPLES[0]])[0].status == 0xA700
    assert sorted(path.name for path in (clinic.drive / "BACKUPSC").iterdir()) == before
