"""The stored files: self-describing, never overwritten, never deleted.

It imports ``ports``, ``dicom``, ``machine`` and ``errors`` only.
"""

from backup_scp.archive.filesystem import FilesystemArchive

__all__ = ["FilesystemArchive"]
