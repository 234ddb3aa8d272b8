"""A modality sends beside each attack: all its images arrive, and the node grows little.  `probes` has the attacks."""

from __future__ import annotations

import pytest

from tests.system.node import Node
from tests.system.probes.attacks import ATTACKS, WARMING
from tests.system.probes.beside import Beside, beside, warmed
from tests.system.probes.target import probed_node, started
from tests.system.raw_sender import echo

STUDIES = 300


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """Yield one node for all attacks: what one leaves behind, the next one meets."""
    folder = tmp_path_factory.mktemp("probes")
    node = probed_node(lambda **arguments: Node(folder / "node", **arguments), folder)
    try:
        target = started(node, STUDIES)
        with beside(node, target) as running:
            warmed(running, WARMING)
            yield running
        assert echo(node)
    finally:
        node.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_a_modality_sends_beside(attacked: Beside, name: str):
    """Every C-ECHO and C-STORE succeeds; memory, files and threads are bounded, and the node calls nothing an error."""
    assert attacked.attack(name, ATTACKS[name]).troubles == []
