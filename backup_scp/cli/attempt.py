"""``python -m backup_scp.cli.attempt``: try one device or copy for the page (node/attempts.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Try what standard input says, and print the answers as JSON; return the exit code."""
    from backup_scp.cli.light_imports import keep_out

    keep_out()
    import msgspec

    from backup_scp.node.attempts import Attempt, answered

    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print among the answers
    attempt = msgspec.json.decode(sys.stdin.buffer.read(), type=Attempt, dec_hook=_typed)
    with output:
        output.write(msgspec.json.encode(answered(attempt)))
    return 0


def _typed(kind: type, value: Any) -> Any:
    """Convert what JSON has no type for: a path."""
    return kind(value) if kind is Path else value


if __name__ == "__main__":
    sys.exit(main())
