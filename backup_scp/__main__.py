"""``python -m backup_scp`` is the command ``backup-scp``."""

from __future__ import annotations

from backup_scp.cli import main

if __name__ == "__main__":
    main()
