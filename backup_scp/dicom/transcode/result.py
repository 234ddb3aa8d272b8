"""A Data Set in another Transfer Syntax: ready to be sent, or on its way there."""

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
    """A Data Set that can be sent from where it is."""

    def close(self) -> None:
        """Close it; while somebody still holds a part of it, its memory stays until that is gone."""
        with contextlib.suppress(BufferError):
            super().close()


class Transcoded(NamedTuple):
    """A Data Set ready to be sent.

    Attributes
    ----------
    data_set
        At its first byte; close it.  It is the caller's own stream when nothing had to be done.
    transfer_syntax_uid, size_bytes
        What it is encoded in, and how long it is.
    """

    data_set: BinaryIO
    transfer_syntax_uid: str
    size_bytes: int

    def parts(self) -> Iterator[bytes | memoryview]:
        """Give it in parts of 1 MiB; all at once where it is in memory."""
        if isinstance(self.data_set, InMemory):
            yield self.data_set.getbuffer()
            return
        while part := self.data_set.read(_PART_BYTES):
            yield part


class Transcoding:
    """A Data Set on its way into another Transfer Syntax; see ``begin``.  The caller takes its ``result``, or gives up.

    Attributes
    ----------
    needs_source : bool
        Whether ``result`` reads the stored Data Set.  It does not where all that is left to do is to wait for a small
        image that is being decoded: that is already in memory but for its pixels.
    """

    def __init__(self, result: Callable[[], Transcoded], frame: Frame | None, why: str) -> None:
        self.needs_source = frame is None
        self._result = result
        self._frame = frame
        self._why = why

    def result(self) -> Transcoded:
        """Wait until it is done.

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
        """Do no more than has begun."""
        if self._frame is not None:
            give_up(self._frame)


@contextlib.contextmanager
def named(why: str) -> Iterator[None]:
    """Say why it has to be transcoded, beside why that cannot be done."""
    try:
        yield
    except InstanceRefused as error:
        raise InstanceRefused(f"{why}: {error}") from error
    except OSError as error:
        raise InstanceRefused(f"{why}: {error.strerror or type(error).__name__}") from error
