"""Leave out one of the flushes of an image: Python imports this at the node's start, see `--left-out`.

SQLite calls fdatasync for itself; it stays.  A recovery also has small batches here, so that a few images give many
moments, and records after each one how far it is.
"""

import os

LEFT_OUT = os.environ.get("BACKUP_SCP_TEST_LEFT_OUT", "")
BATCH = int(os.environ.get("BACKUP_SCP_TEST_BATCH", "0"))


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
elif LEFT_OUT == "return":  # of what comes back from a further copy
    from backup_scp.archive import returning, volume_flush

    vars(volume_flush).update(flush_all=_nothing, fsync=_nothing)
    vars(returning).update(begin_writeback=_nothing)  # else SQLite's own flush finds most bytes written

if BATCH:
    from backup_scp.services import bringing_back
    from backup_scp.watch import recovery_thread

    for module, name, value in ((bringing_back, "MOST_IN_A_BATCH", BATCH), (recovery_thread, "_RECORD_EVERY_S", 0)):
        assert hasattr(module, name)
        setattr(module, name, value)
