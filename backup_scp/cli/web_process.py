"""``python -m backup_scp.cli.web_process``: the web process, which only a node starts (node/web_process.py)."""

from __future__ import annotations

import sys


def main() -> int:
    """Run it; return the exit code."""
    from backup_scp.cli.light_imports import keep_out

    keep_out()  # 40 MB
    from backup_scp.node import web_main

    return web_main.main()


if __name__ == "__main__":
    sys.exit(main())
