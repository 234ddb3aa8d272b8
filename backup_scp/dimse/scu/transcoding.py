"""Data Sets in a Transfer Syntax that the peer accepts: the next one is made while this one is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from backup_scp.dicom.transcode import Transcoded, transcode
from backup_scp.ports import ArchivedFile, StoredVersion, Upcoming
from backup_scp.services.read_ahead import compare_again

Accepted = Callable[[StoredVersion], Sequence[str]]


class Transcoder:
    """Transcodes what a peer does not accept as it is stored; for one thread.

    Decoding works in another process: while an image goes out, the next is decoded, and neither waits for the other.

    Parameters
    ----------
    accepted
        Gives the Transfer Syntaxes that the peer accepts for an instance.
    """

    def __init__(self, accepted: Accepted) -> None:
        self._accepted = accepted
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: tuple[StoredVersion, Future[Transcoded]] | None = None

    def transcode(self, file: ArchivedFile, held: StoredVersion) -> Transcoded:
        """Give the Data Set, from what was begun ahead if it is that; close it.

        Raises
        ------
        InstanceRefused
            There is no lossless way.
        DigestMismatch
            The file has changed since it was compared.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == held:
            return ahead[1].result()
        _drop(ahead)
        return self._now(file, held)

    def begin(self, upcoming: Upcoming | None) -> None:
        """Begin the next one in another thread, where it has to be transcoded; ``transcode`` gives it later."""
        if upcoming is None or upcoming[1].transfer_syntax_uid in self._accepted(upcoming[1]):
            return
        _drop(self._ahead)
        self._pool = self._pool or ThreadPoolExecutor(1, "transcode")
        self._ahead = (upcoming[1], self._pool.submit(self._now, *upcoming))

    def close(self) -> None:
        """Give up what was begun; call it when nothing more is sent."""
        ahead, self._ahead = self._ahead, None
        pool, self._pool = self._pool, None
        _drop(ahead)
        if pool is not None:
            pool.shutdown(wait=False)

    def _now(self, file: ArchivedFile, held: StoredVersion) -> Transcoded:
        with file.data_set() as stream:
            result = transcode(
                stream, held.transfer_syntax_uid, self._accepted(held), file.size_bytes, file.path.parent
            )
        try:
            compare_again(file)
        except BaseException:
            result.data_set.close()
            raise
        return result


def _drop(ahead: tuple[StoredVersion, Future[Transcoded]] | None) -> None:
    """Close what becomes of it, as soon as it is there."""
    if ahead is not None and not ahead[1].cancel():
        ahead[1].add_done_callback(_close)


def _close(done: Future[Transcoded]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().data_set.close()
