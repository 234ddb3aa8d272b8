"""Wait until a running node takes small images into its journal: it makes one when it starts, and after an error."""

from __future__ import annotations

import itertools

from tests.processes import wait_until
from tests.samples import Sample, dx, encode
from tests.system.contents import left_by_a_crash
from tests.system.node import Node

_numbers = itertools.count(1)


def use_journal(node: Node) -> list[Sample]:
    """Send small images until one is found in the journal; return all of them."""
    sent: list[Sample] = []

    def is_in_it() -> bool:
        sent.append(encode(dx(study=f"small.{next(_numbers)}")))
        assert node.send(sent[-1:])[0].status == 0
        return sent[-1].sha256 in left_by_a_crash(node, journals_only=True)

    wait_until(is_in_it, what="an image in the journal")
    return sent
