"""Data Sets in a Transfer Syntax that the peer accepts: the next ones are made while this one is sent."""

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
    """One that was begun; ``needs_file`` while its bytes are still read."""

    held: StoredVersion
    result: Callable[[], Transcoded]
    give_up: Callable[[], None]
    needs_file: bool


class Transcoder:
    """Transcodes what a peer does not accept as it is stored; for one thread.

    Decoding works in another process, and has two images at hand: it decodes the second when the first is done, while
    that goes out.  A small image of one frame is read here, by the thread that sends; what takes longer is made by
    another thread.

    Parameters
    ----------
    accepted
        Gives the Transfer Syntaxes that the peer accepts for an instance.
    """

    def __init__(self, accepted: Accepted) -> None:
        self._accepted = accepted
        self._ahead: _Decoding | None = None

    def transcode(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> Transcoded:
        """Give the Data Set, from what was begun ahead if it is that; close it.

        ``meanwhile`` gives the next one, which is begun as soon as the bytes of this one are not needed any more.

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
        """Begin the next one, where it has to be transcoded; ``transcode`` gives it later."""
        if upcoming is None or upcoming[1].transfer_syntax_uid in self._accepted(upcoming[1]):
            return
        _give_up(self._ahead)
        begun = self._begun(*upcoming)
        self._ahead = _beside(begun) if begun.needs_file else begun

    def close(self) -> None:
        """Give up what was begun; call it when nothing more is sent."""
        ahead, self._ahead = self._ahead, None
        _give_up(ahead)

    def _begun(self, file: ArchivedFile, held: StoredVersion) -> _Decoding:
        """Begin it in this thread, where it is small and in memory."""
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
    """Let another thread do what is left to do; the end of this process does not wait for it, as it would for a pool's.

    Where there is no thread to be had, it is done when the result is asked for.
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
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(result)


def _give_up(begun: _Decoding | None) -> None:
    if begun is not None:
        begun.give_up()


def _nothing() -> None:
    """Nothing was begun that could be given up."""


def _raising(error: InstanceRefused) -> Callable[[], Transcoded]:
    def result() -> Transcoded:
        raise error

    return result


def _drop(future: Future[Transcoded]) -> None:
    """Close what becomes of it, as soon as it is there."""
    if not future.cancel():
        future.add_done_callback(_close)


def _close(done: Future[Transcoded]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().data_set.close()
