"""Leave out one of the flushes of an image: Python imports this at the node's start, see `--left-out`.

SQLite calls fdatasync for itself; it stays.
"""

import os

LEFT_OUT = os.environ.get("BACKUP_SCP_TEST_LEFT_OUT", "")


def _nothing(*_: object) -> None:
    """Return at once."""


if LEFT_OUT == "wait":  # before the answer
    vars(os).update(fsync=_nothing, fdatasync=_nothing)
elif LEFT_OUT == "files":  # of the checkpoint
    from backup_scp.machine import file_system

    vars(file_system).update(_syncfs=_nothing)
elif LEFT_OUT == "drive":  # of a further copy
    from backup_scp.copies.drive import drive_batch, drive_lists
    from backup_scp.machine import root_folder

    vars(root_folder).update(flush_all=_nothing, fsync=_nothing)
    for module in (drive_batch, drive_lists):
        vars(module).update(fsync=_nothing)
