"""Send images to a remote AE: open an Association, and another one after a rejection or a loss."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Self

from pydicom.uid import DeflatedExplicitVRLittleEndian

from backup_scp.dimse.association.association import (
    Association,
    AssociationEnded,
    InvalidResponse,
    LocalAE,
    PeerTimedOut,
)
from backup_scp.dimse.association.negotiation import NATIVE
from backup_scp.dimse.scu.storage_contexts import ContextsToPropose, ProposedContexts
from backup_scp.dimse.scu.storage_scu import MoveOriginator, StorageSCU
from backup_scp.errors import (
    BackupSCPError,
    DestinationBusy,
    DestinationSilent,
    DestinationUnavailable,
    InstanceRefused,
    InstanceUnconfirmed,
    NoRoom,
    NothingAccepted,
    SiteNotTaken,
)
from backup_scp.ports import ArchivedFile, Meanwhile, RemoteAE, StoredVersion, do_nothing

_MOST_SILENT = 3
_ENOUGH = 2  # successes with Implicit VR alone, after which it is used for all images
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0
_IMPLICIT = NATIVE[1]
_NOT_IMPLICIT = frozenset({NATIVE[0], *NATIVE[2:], str(DeflatedExplicitVRLittleEndian)})
_ALONE = -1  # used instead of the number of a proposal


class _Place(NamedTuple):
    """What an Association is for: the images of a site that is named, and the number of a proposal."""

    site: str
    number: int


class RemoteAEDestination:
    """A remote AE as ``ports.Destination``: one Association at a time, a further one for more contexts.

    Parameters
    ----------
    local
        Our AE title and TLS context.
    remote
        The AE to send to.
    move_originator
        The requestor of a C-MOVE, if this serves one.
    watch
        Called repeatedly while we wait for the remote AE; an exception from it ends the wait.

    Attributes
    ----------
    sent
        See ``StorageSCU``.
    """

    def __init__(
        self,
        local: LocalAE,
        remote: RemoteAE,
        move_originator: MoveOriginator | None = None,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = remote.name
        self.sent: Counter[tuple[str, str]] = Counter()
        self.implementation = ""
        self._local = local
        self._remote = remote
        self._move_originator = move_originator
        self._watch = watch
        self._interrupted = False
        self._expected = ContextsToPropose()
        self._proposals: list[ProposedContexts] = []
        self._proposal_of: dict[str, int] = {}  # number of the proposal, by SOP Class
        self._open: tuple[_Place, Association, StorageSCU] | None = None
        self._not_accepted: dict[_Place, str] = {}  # the reason
        self._silent = 0  # instances in a row without an answer
        self._helped = 0  # how often Implicit VR alone has helped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._interrupted or isinstance(exc[1], KeyboardInterrupt):
            self._abandon()  # a message may be incomplete, so it cannot be released
        self._release()

    def expect(self, held: StoredVersion) -> None:
        """See ``ports.RestoreDestination``."""
        self._expected.add(held)

    def disconnect(self) -> None:
        """See ``ports.RestoreDestination``."""
        self._release()

    def prepare(self, instances: Sequence[StoredVersion]) -> Sequence[StoredVersion]:
        """See ``ports.Destination``: instances of one Association stay together."""
        for held in instances:
            self._expected.add(held)
        proposals = self._expected.proposals()
        if proposals != self._proposals:
            self._release()
            self._not_accepted.clear()
        self._proposals = proposals
        self._proposal_of = {abstract: number for number, proposal in enumerate(proposals) for abstract, _ in proposal}
        ordered = sorted(instances, key=lambda held: (held.site, self._number_of(held)))
        if ordered and self._proposals[0]:
            with contextlib.suppress(InstanceRefused):  # another Association may still be accepted
                self._associate(self._place_of(ordered[0]))
        return ordered

    def send(self, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing) -> str | None:
        """See ``ports.Destination``."""
        if held.sop_class_uid not in self._proposal_of:
            raise InstanceRefused("Its SOP Class UID cannot be proposed to any destination")
        scu = self._associate(self._place_of(held))
        try:
            warning = self._store(scu, file, held, meanwhile)
        except PeerTimedOut:
            raise self._silence() from None
        except AssociationEnded:
            warning = self._once_more(file, held)
        self._silent = 0
        return warning

    def _store(
        self, scu: StorageSCU, file: ArchivedFile, held: StoredVersion, meanwhile: Meanwhile = do_nothing
    ) -> str | None:
        try:
            return scu.store(file, held, meanwhile)
        except InvalidResponse as error:
            self._abandon()
            raise InstanceUnconfirmed(f"{self._remote.ae_title} did not confirm it: it sent {error}") from None
        except AssociationEnded:
            self._abandon()
            raise
        except BackupSCPError:
            raise
        except BaseException:  # from ``watch``, or from the file: the message may be incomplete
            self._interrupted = True
            raise

    def _silence(self) -> DestinationSilent | InstanceUnconfirmed:
        """Return the error for a missing answer: of this instance, or after several in a row of the destination."""
        self._silent += 1
        timeout_s = self._local.timing.network_s
        sentence = f"{self._remote.ae_title} did not answer for {timeout_s:g} s while an image was sent"
        return (InstanceUnconfirmed if self._silent < _MOST_SILENT else DestinationSilent)(sentence)

    def _once_more(self, file: ArchivedFile, held: StoredVersion) -> str | None:
        """Send the instance again with Implicit VR alone: some peers accept Explicit VR, and then drop the Association.

        The next instance, on an Association of its own, shows whether the peer still works.
        """
        broke_off = InstanceUnconfirmed(f"{self._remote.ae_title} broke off the association while it was sent")
        if held.transfer_syntax_uid == _IMPLICIT:
            raise broke_off
        try:
            place = self._place_of(held)._replace(number=_ALONE)
            association = self._request(place.site, [(held.sop_class_uid, (_IMPLICIT,))])
            scu = StorageSCU(association, association.contexts.values(), self._move_originator, sent=self.sent)
            self._open = (place, association, scu)
            warning = self._store(scu, replace(file, content=None), held)  # the buffer has the next instance by now
        except (AssociationEnded, DestinationUnavailable):
            raise broke_off from None
        except NoRoom:
            raise
        except InstanceRefused as error:
            raise broke_off from error
        self._helped += 1
        return warning

    def _number_of(self, held: StoredVersion) -> int:
        return self._proposal_of.get(held.sop_class_uid, 0)

    def _place_of(self, held: StoredVersion) -> _Place:
        return _Place(held.site if self._remote.carries(held.site) else "", self._number_of(held))

    def _associate(self, place: _Place) -> StorageSCU:
        if self._open is not None and self._open[0] == place and self._open[1].is_established:
            return self._open[2]
        self._release()
        if place in self._not_accepted:
            raise InstanceRefused(self._not_accepted[place])
        try:
            association = self._request(place.site, self._proposed(place.number))
        except (NothingAccepted, SiteNotTaken) as error:
            self._not_accepted[place] = str(error)
            if len(self._proposals) == 1 and isinstance(error, NothingAccepted):
                raise
            raise InstanceRefused(str(error)) from None
        scu = StorageSCU(association, association.contexts.values(), self._move_originator, sent=self.sent)
        self._open = (place, association, scu)
        self.implementation = association.implementation
        return scu

    def _proposed(self, number: int) -> ProposedContexts:
        """Return the contexts of a proposal, without Explicit VR after that has caused losses."""
        if self._helped < _ENOUGH:
            return self._proposals[number]
        return [context for context in self._proposals[number] if context[1][0] not in _NOT_IMPLICIT]

    def _request(self, site: str, contexts: ProposedContexts) -> Association:
        """Open an Association; after a transient rejection request it again, for some time (PS3.8 9.3.4)."""
        until, pause_s = time.monotonic() + self._local.timing.busy_s, _SHORTEST_PAUSE_S
        while True:
            try:
                return Association.request_from(
                    local=replace(self._local, as_site=site),
                    called=self._remote.ae_title,
                    host=self._remote.host,
                    port=self._remote.port,
                    contexts=contexts,
                    tls=self._remote.tls,
                    watch=self._watch,
                )
            except DestinationBusy:
                if time.monotonic() + pause_s > until:
                    raise
            self._pause(pause_s * random.uniform(0.5, 1))  # noqa: S311 - so that two nodes do not retry in step
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _pause(self, duration_s: float) -> None:
        until = time.monotonic() + duration_s
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, _SHORTEST_PAUSE_S))
            self._watch()

    def _release(self) -> None:
        if self._open is not None:
            self._open[2].close()
            self._open[1].release()
            self._open = None

    def _abandon(self) -> None:
        if self._open is not None:
            self._open[2].close()
            self._open[1].abort(block=False)
            self._open = None
