"""Images as consoles send them, drawn from a seed: new studies, corrections, re-sends, 2 KB to 5 MB; and answers."""

from __future__ import annotations

import math
import random
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from tests.samples import Sample, encode, instance
from tests.system.raw_sender import Acceptor, Association

SMALLEST, LARGEST = 2_000, 5_000_000
CONTEXTS = [(DigitalXRayImageStorageForPresentation, (ExplicitVRLittleEndian,))]

_NOISE = random.Random(1).randbytes(LARGEST + 4096)
_PIECE = 65_536
_REFUSALS = 50  # in a row: a node that takes nothing has no power cut worth the name


@dataclass
class Ledger:
    """The sent and the acknowledged instances; shared between threads."""

    sent: dict[str, str] = field(default_factory=dict)
    """SHA-256 to SOP Instance UID."""
    acknowledged: dict[str, str] = field(default_factory=dict)
    interrupted: dict[str, Sample] = field(default_factory=dict)
    """What has had no success yet."""
    late: set[str] = field(default_factory=set)
    """Answered with success, but only after the power had begun to go: counted as interrupted."""
    refused: list[int] = field(default_factory=list)
    """Other Statuses than success."""
    on_success: Callable[[str], object] = lambda _: None

    def begin(self, sample: Sample) -> str:
        sha256 = sample.sha256
        self.sent[sha256] = sample.sop_instance_uid
        self.interrupted[sha256] = sample
        return sha256

    def end(self, sha256: str, status: int) -> None:
        if status:
            self.refused.append(status)
            return
        self.on_success(sha256)
        self.acknowledged[sha256] = self.sent[sha256]
        self.interrupted.pop(sha256, None)

    def give_up(self, lost: Iterable[str]) -> None:
        """Count a lost instance once, not after each further power cut."""
        for sha256 in lost:
            del self.acknowledged[sha256]


class Moment:
    """When the power goes: after so many acknowledgements or bytes, and a little later.

    The delay is no synchronisation; it is part of what is drawn, so that every step of a C-STORE is met.
    """

    def __init__(self, acknowledgements: int = 0, sent_bytes: int = 0, delay_s: float = 0.0) -> None:
        self.acknowledgements, self.sent_bytes, self.delay_s = acknowledgements, sent_bytes, delay_s
        self.over = threading.Event()
        self._come = threading.Event()
        self._lock = threading.Lock()

    @classmethod
    def drawn(cls, chance: random.Random, associations: int) -> Moment:
        delay_s = chance.choice((0.0, chance.uniform(0, 0.03)))
        if chance.random() < 0.6:
            return cls(acknowledgements=chance.randint(1, 50 * associations), delay_s=delay_s)
        return cls(sent_bytes=int(10 ** chance.uniform(5, 7.5)), delay_s=delay_s)

    def __str__(self) -> str:
        after = f"{self.acknowledgements} answers" if self.acknowledgements else f"{self.sent_bytes} bytes"
        return f"{after} and {self.delay_s * 1000:.1f} ms"

    def passed(self, *, acknowledgements: int = 0, sent_bytes: int = 0) -> None:
        with self._lock:
            self.acknowledgements -= acknowledgements
            self.sent_bytes -= sent_bytes
            if self.acknowledgements <= 0 and self.sent_bytes <= 0:
                self._come.set()

    def give_up(self) -> None:
        """Make the cut come at once: a sender has ended, and `Senders.join` gives the reason."""
        self._come.set()

    def wait(self, timeout_s: float = 60.0) -> None:
        if not self._come.wait(timeout_s):
            self.over.set()  # for the senders: they end with the program, or it does not end
            raise AssertionError(f"the moment did not come: {self} are missing")
        time.sleep(self.delay_s)


class Console:
    """The images of one association; the same seed gives the same images."""

    def __init__(self, drawn_from: str, number: int = 0, *, largest: int = LARGEST, only_new: bool = False) -> None:
        self._shared, self._name = drawn_from, f"{drawn_from}/{number}"
        self._chance, self._largest, self._only_new = random.Random(self._name), largest, only_new
        self._made: list[tuple[str, str, int]] = []
        self._sent: list[Sample] = []
        self._number = 0

    def images(self) -> Iterator[Sample]:
        """New instances in most cases; else one that was sent before, with other bytes or the very same."""
        while True:
            what = 1.0 if self._only_new else self._chance.random()
            if self._sent and what < 0.08:
                yield self._chance.choice(self._sent)
                continue
            if self._made and what < 0.25:
                study, series, number = self._chance.choice(self._made)
            else:
                study, series, number = self._new()
            sample = self._image(study, series, number)
            self._sent = [*self._sent[-7:], sample]
            yield sample

    def _new(self) -> tuple[str, str, int]:
        """Most are of the study before; some studies are sent by several consoles at once."""
        self._number += 1
        if not self._made or self._chance.random() < 0.3:
            mine = self._chance.random() < 0.7
            study = f"{self._name}/{self._number}" if mine else f"{self._shared}/{self._chance.randint(1, 20)}"
            series = self._name
        else:
            study, series, _ = self._made[-1]
        self._made.append((study, series, self._number))
        return self._made[-1]

    def _image(self, study: str, series: str, number: int) -> Sample:
        size = int(math.exp(self._chance.uniform(math.log(SMALLEST), math.log(self._largest)))) // 2 * 2
        size = size if self._chance.random() < 0.3 else min(size, 60_000)  # else the large ones take all the time
        start = self._chance.randrange(len(_NOISE) - size)
        dataset = instance(DigitalXRayImageStorageForPresentation, study=study, series=series, number=number)
        dataset.AccessionNumber = f"{self._chance.getrandbits(48):x}"  # other bytes each time
        head = encode(dataset, ExplicitVRLittleEndian)
        pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size) + _NOISE[start : start + size]
        return Sample(
            head.name, head.sop_class_uid, head.sop_instance_uid, ExplicitVRLittleEndian, head.data_set + pixels
        )


def send(node: Acceptor, console: Console, ledger: Ledger, moment: Moment) -> None:
    """C-STORE over one association until the power is cut; a node that refuses everything is an error."""
    refused = 0
    try:
        with Association(node, CONTEXTS, max_pdu=_PIECE + 6) as association:
            for sample in console.images():
                if moment.over.is_set():
                    return
                sha256 = ledger.begin(sample)
                status = association.store(sample, _counted(sample.data_set, moment)).status
                if moment.over.is_set():
                    ledger.late.update(set() if status else {sha256})
                    return
                ledger.end(sha256, status)
                moment.passed(acknowledgements=not status)
                refused = refused + 1 if status else 0
                if refused == _REFUSALS:
                    break
        raise AssertionError(f"refused {refused} times in a row, at last with {status:04X}")
    except OSError:
        if not moment.over.is_set():
            raise


def _counted(data: bytes, moment: Moment) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]
        moment.passed(sent_bytes=min(_PIECE, len(data) - start))


class Senders:
    """Consoles at work, each in its own thread; what went wrong in one is raised by `join`."""

    def __init__(self, node: Acceptor, consoles: Sequence[Console], ledger: Ledger, moment: Moment) -> None:
        self._pool = ThreadPoolExecutor(len(consoles))
        self._ends = [self._pool.submit(send, node, console, ledger, moment) for console in consoles]
        for end in self._ends:
            end.add_done_callback(lambda _: moment.give_up())

    def join(self) -> None:
        self._pool.shutdown()
        for end in self._ends:
            end.result()
