"""``python -m backup_scp.cli.web_process``: the web process, which only a node starts (node/web_process.py)."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Run it; return the exit code."""
    gc.disable()  # loaded modules stay: searching them for garbage would take a quarter of the start
    from backup_scp.cli.light_imports import keep_out

    keep_out()  # 40 MB
    from backup_scp.node import web_main

    return web_main.main()


if __name__ == "__main__":
    sys.exit(main())
