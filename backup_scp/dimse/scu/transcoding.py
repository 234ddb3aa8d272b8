"""Transcode Data Sets to a Transfer Syntax that the peer accepts, ahead while another one is sent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, NamedTuple

from backup_scp.dicom.transcode import SMALL_BYTES, Transcoded, begin, transcode
from backup_scp.errors import InstanceRefused
from backup_scp.ports import ArchivedFile, Meanwhile, StoredVersion, Upcoming, do_nothing
from backup_scp.services.read_ahead import compare_again

Accepted = Callable[[StoredVersion], Sequence[str]]
_Arguments = tuple[BinaryIO, str, Sequence[str], int, Path]


class _Decoding(NamedTuple):
    """A started transcoding; ``needs_file`` while it still reads the file's bytes."""

    held: StoredVersion
    result: Callable[[], Transcoded]
    give_up: Callable[[], None]
    needs_file: bool


class Transcoder:
    """Transcodes images that a peer does not accept as stored; for one thread.

    Another process decodes, and has up to two images: it decodes the second one while the first is sent.  The sending
    thread reads small images of one frame itself; another thread handles all others.

    Parameters
    ----------
    accepted
        Returns the Transfer Syntaxes that the peer accepts for an instance.
    """

    def __init__(self, accepted: Accepted) -> None:
        self._accepted = accepted
        self._ahead: _Decoding | None = None

    def transcode(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> Transcoded:
        """Return the transcoded Data Set, which may have been started ahead; the caller closes it.

        ``meanwhile`` returns the next image, whose transcoding starts as soon as the bytes of this one are not needed.

        Raises
        ------
        InstanceRefused
            There is no lossless way.
        DigestMismatch
            The file has changed since it was compared.
        """
        begun, self._ahead = self._ahead, None
        if begun is None or begun.held != held:
            _give_up(begun)
            begun = self._begun(file, held)
        if begun.needs_file:
            result = begun.result()
            self.begin(meanwhile())
            return result
        self.begin(meanwhile())
        return begun.result()

    def begin(self, upcoming: Upcoming | None) -> None:
        """Start the next image, if it must be transcoded; ``transcode`` returns it later."""
        if upcoming is None or upcoming[1].transfer_syntax_uid in self._accepted(upcoming[1]):
            return
        _give_up(self._ahead)
        begun = self._begun(*upcoming)
        self._ahead = _beside(begun) if begun.needs_file else begun

    def close(self) -> None:
        """Cancel what was started ahead; call it when nothing more is sent."""
        ahead, self._ahead = self._ahead, None
        _give_up(ahead)

    def _begun(self, file: ArchivedFile, held: StoredVersion) -> _Decoding:
        """Start in this thread if the image is small and in memory; otherwise do the work when the result is needed."""
        if file.content is None or file.size_bytes > SMALL_BYTES:
            return _Decoding(held, lambda: self._now(file, held), _nothing, needs_file=True)
        try:
            begun = begin(*self._arguments(file, held, file.data_set()))
        except InstanceRefused as error:
            return _Decoding(held, _raising(error), _nothing, needs_file=False)
        return _Decoding(held, begun.result, begun.give_up, begun.needs_source)

    def _now(self, file: ArchivedFile, held: StoredVersion) -> Transcoded:
        with file.data_set() as stream:
            result = transcode(*self._arguments(file, held, stream))
        try:
            compare_again(file)
        except BaseException:
            result.data_set.close()
            raise
        return result

    def _arguments(self, file: ArchivedFile, held: StoredVersion, stream: BinaryIO) -> _Arguments:
        return stream, held.transfer_syntax_uid, self._accepted(held), file.size_bytes, file.path.parent


def _beside(begun: _Decoding) -> _Decoding:
    """Do the rest in another thread.

    It is a daemon thread, because the interpreter would wait for the threads of a pool when it ends.  When no thread
    can be started, the work is done when the result is needed.
    """
    future: Future[Transcoded] = Future()
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=_carry_out, args=(begun.result, future), name="transcode", daemon=True).start()
        return begun._replace(result=future.result, give_up=lambda: _drop(future))
    return begun


def _carry_out(work: Callable[[], Transcoded], future: Future[Transcoded]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - raised again by the future's ``result``
        future.set_exception(error)
    else:
        future.set_result(result)


def _give_up(begun: _Decoding | None) -> None:
    if begun is not None:
        begun.give_up()


def _nothing() -> None:
    """Do nothing: nothing was started that could be cancelled."""


def _raising(error: InstanceRefused) -> Callable[[], Transcoded]:
    def result() -> Transcoded:
        raise error

    return result


def _drop(future: Future[Transcoded]) -> None:
    """Cancel the work, or close its result as soon as it is ready."""
    if not future.cancel():
        future.add_done_callback(_close)


def _close(done: Future[Transcoded]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().data_set.close()
