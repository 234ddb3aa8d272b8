"""Transcoded Data Sets: finished, or still being made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple

from backup_scp.dicom.transcode.decoder_process import Frame
from backup_scp.dicom.transcode.decoders import finish, give_up
from backup_scp.errors import InstanceRefused

_PART_BYTES = 1 << 20


class InMemory(BytesIO):
    """A Data Set in memory, which can be sent without a copy."""

    def close(self) -> None:
        """Close it; the memory stays while a part of it is still in use."""
        with contextlib.suppress(BufferError):
            super().close()


class Transcoded(NamedTuple):
    """A Data Set ready to be sent.

    Attributes
    ----------
    data_set
        At its first byte; the caller closes it.  It is the caller's own stream when nothing had to be done.
    transfer_syntax_uid, size_bytes
        Its encoding and its length.
    """

    data_set: BinaryIO
    transfer_syntax_uid: str
    size_bytes: int

    def parts(self) -> Iterator[bytes | memoryview]:
        """Yield it in parts of 1 MiB; in one part when it is in memory."""
        if isinstance(self.data_set, InMemory):
            yield self.data_set.getbuffer()
            return
        while part := self.data_set.read(_PART_BYTES):
            yield part


class Transcoding:
    """A Data Set that is being transcoded; see ``begin``.  The caller takes its ``result`` or calls ``give_up``.

    Attributes
    ----------
    needs_source : bool
        Whether ``result`` reads the stored Data Set.  It does not for a small image that is being decoded: all but its
        pixels is in memory already.
    """

    def __init__(self, result: Callable[[], Transcoded], frame: Frame | None, why: str) -> None:
        self.needs_source = frame is None
        self._result = result
        self._frame = frame
        self._why = why

    def result(self) -> Transcoded:
        """Wait for the transcoded Data Set.

        Raises
        ------
        InstanceRefused
            It cannot be read or decoded.
        """
        with named(self._why):
            if self._frame is not None:
                finish(self._frame)
            return self._result()

    def give_up(self) -> None:
        """Start no further work."""
        if self._frame is not None:
            give_up(self._frame)


@contextlib.contextmanager
def named(why: str) -> Iterator[None]:
    """Add to an error in the block why the Data Set has to be transcoded."""
    try:
        yield
    except InstanceRefused as error:
        raise InstanceRefused(f"{why}: {error}") from error
    except OSError as error:
        raise InstanceRefused(f"{why}: {error.strerror or type(error).__name__}") from error
