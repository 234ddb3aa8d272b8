"""Write the text of an archive for whoever opens it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from backup_scp.machine.zip_stream import ZipStream

README = "README.TXT"


def readme_file(archive: ZipStream, made_at: datetime, text: str) -> Iterator[bytes]:
    """Add README.TXT, with line ends that every editor shows; other letters than ASCII are in UTF-8."""
    content = text.replace("\n", "\r\n").encode()
    return archive.add(README, made_at, len(content), [content])
