"""Attack a node for a long time, and print what a modality beside each attack came to feel: see --help."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.system.node import Node
from tests.system.probes.attacks import ATTACKS, WARMING
from tests.system.probes.beside import MOST_GROWTH_BYTES, Beside, Outcome, beside, warmed
from tests.system.probes.target import Attack, probed_node, started

_SLOWEST_S = 1.0
_HEADS = ("attack", "waves", "images", "slowest C-ECHO", "slowest C-STORE", "memory", "files", "threads")


def nothing(running: Beside) -> Attack:
    """Return no attack, for comparison."""
    return lambda _: running.modality.wait_for(1, 0.0)


def row(outcome: Outcome) -> str:
    """Return a line of the table."""
    before, peak, after = outcome.before, outcome.peak, outcome.after
    cells = [
        outcome.attack,
        f"{outcome.waves:,}",
        f"{len(outcome.cycles):,}",
        f"{outcome.slowest_echo_s * 1e3:,.0f} ms",
        f"{outcome.slowest_store_s * 1e3:,.0f} ms",
        f"{before.memory_bytes / 1e6:.0f} MB, {(peak.memory_bytes - before.memory_bytes) / 1e6:+.0f} MB",
        f"{before.files} to {after.files}",
        f"{before.threads + before.of_web} to {after.threads + after.of_web}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Run all attacks, and return 1 when the modality waited for one, or the node grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.probes", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each attack, again and again")
    parser.add_argument("--studies", type=int, default=8000, help="in the index")
    parser.add_argument("--only", default="", help="attacks whose name has this in it")
    asked = parser.parse_args()
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="backup-scp-probes-") as name:
        folder = Path(name)
        node = probed_node(lambda **arguments: Node(folder / "node", **arguments), folder)
        try:
            with beside(node, started(node, asked.studies)) as running:
                warmed(running, WARMING)
                print(f"| {' | '.join(_HEADS)} |\n{'|---' * len(_HEADS)}|")
                for attack, function in {"none": nothing(running), **ATTACKS}.items():
                    if asked.only in attack:
                        outcome = running.attack(attack, function, asked.seconds)
                        print(row(outcome), flush=True)
                        found += [f"{attack}: {trouble}" for trouble in outcome.troubles]
                        if outcome.slowest_echo_s > _SLOWEST_S:
                            found.append(f"{attack}: a C-ECHO took {outcome.slowest_echo_s:.1f} s")
        finally:
            node.close()
    print("", *found or ["Nothing found"], sep="\n")
    print(f"Found is a C-ECHO over {_SLOWEST_S:.0f} s, a failure, or memory over {MOST_GROWTH_BYTES >> 20} MiB more.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
