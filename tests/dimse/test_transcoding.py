"""Images that the peer does not accept as stored are transcoded, the next one while this one is sent."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import threading
from typing import BinaryIO

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

import backup_scp.dicom.transcode
from backup_scp.dimse.scu import transcoding
from backup_scp.dimse.scu.transcoding import Transcoder
from backup_scp.errors import InstanceRefused
from backup_scp.ports import Selection
from backup_scp.services.read_ahead import VerifiedReader
from tests.dicom.transcode.series import damaged, lossless_series
from tests.samples import ct_series, encode
from tests.stored import stored_in

SAMPLES = [encode(ds) for ds in ct_series(3)]
IMPLICIT = [encode(ds, ImplicitVRLittleEndian).data_set for ds in ct_series(3)]


@pytest.fixture
def files(tmp_path):
    """Yield the files and rows of SAMPLES."""
    with stored_in(tmp_path) as stored:
        for sample in SAMPLES:
            stored.put(sample)
        held = stored.index.select(Selection())
        yield [(stored.archive.read(one.location), one) for one in held]


@pytest.fixture
def transcoder():
    made = Transcoder(lambda _held: [str(ImplicitVRLittleEndian)])
    yield made
    made.close()


@pytest.fixture
def threads(monkeypatch):
    """Return where each one was transcoded; the results stay known."""
    seen: list[tuple[str, BinaryIO]] = []

    def transcode(*arguments):
        result = real(*arguments)
        seen.append((threading.current_thread().name, result.data_set))
        return result

    real = backup_scp.dicom.transcode.transcode
    monkeypatch.setattr(transcoding, "transcode", transcode)
    return seen


def at_work() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "transcode"]


def content(result) -> bytes:
    with result.data_set as data_set:
        return data_set.read()


def test_the_next_is_made_in_another_thread_and_once(transcoder, files, threads):
    assert content(transcoder.transcode(*files[0])) == IMPLICIT[0]
    transcoder.begin(files[1])
    assert content(transcoder.transcode(*files[1])) == IMPLICIT[1]
    assert [name.startswith("transcode") for name, _ in threads] == [False, True]


def test_what_is_accepted_as_it_is_stored_is_not_begun(files, threads):
    transcoder = Transcoder(lambda _held: [str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)])
    transcoder.begin(files[0])
    transcoder.begin(None)
    assert transcoder._ahead is None
    assert at_work() == []
    assert threads == []


def test_another_one_than_was_begun_is_made_at_once(transcoder, files, threads):
    transcoder.begin(files[1])
    assert content(transcoder.transcode(*files[2])) == IMPLICIT[2]
    transcoder.close()
    for thread in at_work():  # what was given up is closed when it is made
        thread.join(30)
    assert {data_set.closed for _, data_set in threads} == {True}


def test_what_fails_ahead_fails_when_it_is_its_turn(transcoder, files):
    file, held = files[1]
    broken = (dataclasses.replace(file), held._replace(transfer_syntax_uid=str(JPEGLSLossless)))
    transcoder.begin(broken)
    with pytest.raises(InstanceRefused, match="not encapsulated"):
        transcoder.transcode(*broken)
    assert content(transcoder.transcode(*files[2])) == IMPLICIT[2]


def test_what_nobody_asks_for_any_more_is_closed(transcoder, files, threads, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def wait(_file):
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(transcoding, "compare_again", wait)
    transcoder.begin(files[0])
    assert begun.wait(30)
    (thread,) = at_work()
    transcoder.close()
    go_on.set()
    thread.join(30)
    assert [data_set.closed for _, data_set in threads] == [True]


_ENDS_MEANWHILE = """
import threading
from types import SimpleNamespace
from backup_scp.dimse.scu.transcoding import Transcoder

made = Transcoder(lambda _held: ["1.2.840.10008.1.2"])
file = SimpleNamespace(content=None, size_bytes=1, data_set=threading.Event().wait)
made.begin((file, SimpleNamespace(transfer_syntax_uid="1.2.840.10008.1.2.1")))
made.close()
"""


def test_the_end_of_the_process_does_not_wait_for_what_was_begun():
    """A film of a thousand frames takes minutes, and is not needed after SIGTERM or Ctrl-C."""
    assert subprocess.run([sys.executable, "-c", _ENDS_MEANWHILE], check=False, timeout=30).returncode == 0


def test_without_another_thread_it_is_made_when_it_is_its_turn(transcoder, files, threads, monkeypatch):
    def no_thread(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    transcoder.begin(files[1])
    assert content(transcoder.transcode(*files[1])) == IMPLICIT[1]
    assert [name for name, _ in threads] == [threading.current_thread().name]


def test_what_is_read_ahead_is_what_is_begun(tmp_path):
    with stored_in(tmp_path) as stored:
        for sample in SAMPLES:
            stored.put(sample)
        held = stored.index.select(Selection())
        stored.flip(held[2].location)
        with VerifiedReader(stored.archive) as outgoing:
            assert outgoing.read_ahead() is None
            rest = outgoing.in_order(held)
            next(rest)
            upcoming = outgoing.read_ahead()
            assert upcoming == outgoing.read_ahead() == (stored.archive.read(held[1].location), held[1])
            next(rest)
            assert outgoing.read_ahead() is None  # it is damaged
            next(rest)
            assert outgoing.read_ahead() is None  # it was the last


@contextlib.contextmanager
def loading(folder, samples):
    """Yield what reads them, and them in order."""
    with stored_in(folder) as stored:
        for sample in samples:
            stored.put(sample)
        with VerifiedReader(stored.archive) as outgoing:
            held = sorted(stored.index.select(Selection()), key=lambda one: _order(one, samples))
            yield outgoing, outgoing.in_order(held)


def _order(held, samples) -> int:
    return [sample.sop_instance_uid for sample in samples].index(held.sop_instance_uid)


def words(result) -> bytes:
    return dataclasses.replace(SAMPLES[0], data_set=content(result)).dataset().PixelData


@pytest.fixture
def plain():
    """Return a transcoder for a peer that takes Explicit VR Little Endian alone."""
    made = Transcoder(lambda _held: [str(ExplicitVRLittleEndian)])
    yield made
    made.close()


def test_small_images_come_in_order_and_the_next_is_begun_before_one_is_waited_for(plain, tmp_path):
    series = lossless_series(5)
    with loading(tmp_path, [sample for sample, _ in series]) as (outgoing, rest):
        for number, loaded in enumerate(rest):
            given = plain.transcode(loaded.required(), loaded.held, outgoing.read_ahead)
            if number < 4:
                assert plain._ahead.held.sop_instance_uid == series[number + 1][0].sop_instance_uid
                assert not plain._ahead.needs_file
            assert words(given) == series[number][1]
    assert plain._ahead is None
    assert at_work() == []


def of_another_size(sample):
    ds = sample.dataset()
    ds.Rows += 1
    return encode(ds, sample.transfer_syntax_uid)


@pytest.mark.parametrize(("change", "reason"), [(damaged, "damaged"), (of_another_size, "another size")])
def test_one_fails_when_it_is_its_turn_and_the_next_which_was_begun_is_given(change, reason, plain, tmp_path):
    series = lossless_series(4)
    series[1] = (change(series[1][0]), b"")
    with loading(tmp_path, [sample for sample, _ in series]) as (outgoing, rest):
        for loaded, (_, expected) in zip(rest, series, strict=True):
            if expected:
                assert words(plain.transcode(loaded.required(), loaded.held, outgoing.read_ahead)) == expected
            else:
                with pytest.raises(InstanceRefused, match=reason):
                    plain.transcode(loaded.required(), loaded.held, outgoing.read_ahead)
                assert plain._ahead is not None


def test_what_was_begun_is_given_up_with_the_association(plain, tmp_path):
    series = lossless_series(3)
    with loading(tmp_path, [sample for sample, _ in series]) as (outgoing, rest):
        loaded = next(rest)
        assert words(plain.transcode(loaded.required(), loaded.held, outgoing.read_ahead)) == series[0][1]
        begun = plain._ahead
        plain.close()
        with pytest.raises(InstanceRefused, match="any more"):
            begun.result()
        for loaded, (_, expected) in zip(rest, series[1:], strict=True):
            assert words(plain.transcode(loaded.required(), loaded.held, outgoing.read_ahead)) == expected
