"""Where the files are: self-describing, never overwritten, never deleted."""

from backup_scp.archive.filesystem import FilesystemArchive

__all__ = ["FilesystemArchive"]
