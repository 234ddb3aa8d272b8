"""Leave out the one wait of an image for the disk: Python imports this at the node's start, see `--without-the-wait`.

SQLite calls fdatasync for itself, and the checkpoints call syncfs: both stay.
"""

import os


def _nothing(fd: object) -> None:
    """Return at once."""


os.fsync = os.fdatasync = _nothing
