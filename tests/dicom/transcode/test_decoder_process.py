"""The kept process that decodes: whatever becomes of it costs one image, and never the node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from backup_scp.dicom.transcode import decoder_process
from backup_scp.dicom.transcode.decoder_process import Codec, DecoderProcess, Order
from backup_scp.errors import InstanceRefused
from tests.processes import wait_until

WORKER = decoder_process._PROGRAM


@pytest.fixture
def process():
    made = DecoderProcess()
    yield made
    made.end()


def image(rows: int = 24, columns: int = 16, seed: int = 1):
    """Return words and the codestream that has them."""
    words = np.random.default_rng(seed).integers(0, 65536, (rows, columns)).astype("<u2")
    codestream = bytes(imagecodecs.jpeg8_encode(words, lossless=True, bitspersample=16))
    return words, codestream, Order(Codec.JPEG, rows, columns, 1, 2)


def decode(process, codestream, order) -> bytes:
    parts: list[bytes] = []
    process.decode(order, codestream, lambda part: parts.append(bytes(part)))
    return b"".join(parts)


def pid(process) -> int:
    assert process._process is not None
    return process._process.pid


def test_one_process_decodes_one_frame_after_another(process):
    numbers = set()
    for seed in range(5):
        words, codestream, order = image(seed=seed)
        assert decode(process, codestream, order) == words.tobytes()
        numbers.add(pid(process))
    assert len(numbers) == 1


def test_a_large_frame_comes_in_parts(process):
    words, codestream, order = image(1500, 1400)
    parts: list[bytes] = []
    process.decode(order, codestream, lambda part: parts.append(bytes(part)))
    assert b"".join(parts) == words.tobytes()
    assert max(map(len, parts)) <= 1 << 20 < len(words.tobytes())


def test_threads_take_turns(process):
    images = [image(seed=seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: decode(process, each[1], each[2]), images))
    assert found == [words.tobytes() for words, *_ in images]


def test_a_damaged_frame_is_refused_and_the_process_stays(process):
    words, codestream, order = image()
    decode(process, codestream, order)
    first = pid(process)
    with pytest.raises(InstanceRefused, match="damaged"):
        decode(process, b"\xff\xd8 this is no image", order)
    assert decode(process, codestream, order) == words.tobytes()
    assert pid(process) == first


def test_another_shape_than_was_ordered_is_refused(process):
    words, codestream, order = image()
    with pytest.raises(InstanceRefused, match="another shape"):
        decode(process, codestream, order._replace(rows=order.columns, columns=order.rows))
    with pytest.raises(InstanceRefused, match="another shape"):
        decode(process, codestream, order._replace(bytes_per_sample=1))
    assert decode(process, codestream, order) == words.tobytes()


def test_a_process_that_ends_over_a_frame_costs_that_frame(process):
    words, codestream, order = image(1500, 1400)

    def shoot(_part):
        os.kill(pid(process), signal.SIGKILL)

    with pytest.raises(InstanceRefused, match="broke down"):
        process.decode(order, codestream, shoot)
    assert decode(process, codestream, order) == words.tobytes()


def test_a_process_that_ended_between_two_frames_costs_none(process):
    words, codestream, order = image()
    decode(process, codestream, order)
    os.kill(pid(process), signal.SIGKILL)
    wait_until(lambda: process._process.poll() is not None)
    assert decode(process, codestream, order) == words.tobytes()


def test_who_cannot_take_the_pixels_leaves_no_part_of_them_to_the_next(process):
    words, codestream, order = image(1500, 1400)

    def refuse(_part):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        process.decode(order, codestream, refuse)
    assert decode(process, codestream, order) == words.tobytes()


def changed_worker(folder: Path, **constants: object) -> Path:
    """Write a program that is the worker with other limits."""
    lines = "".join(f"decoder_worker.{name} = {value!r}\n" for name, value in constants.items())
    program = folder / "worker.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(WORKER.parent)!r})\nimport decoder_worker\n{lines}decoder_worker.main()\n"
    )
    return program


def test_a_frame_that_takes_too_long_ends_the_process(process, tmp_path, monkeypatch):
    _, codestream, order = image(3000, 3000)
    slow = changed_worker(tmp_path, _SHORTEST_LIMIT_S=1e-4, _SAMPLES_PER_S=1e15)
    monkeypatch.setattr(decoder_process, "_PROGRAM", slow)
    with pytest.raises(InstanceRefused, match="broke down"):
        decode(process, codestream, order)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_frame_that_takes_too_much_memory_is_refused_and_the_process_stays(process, tmp_path, monkeypatch):
    small, size = image(), 10_000
    large = bytes(imagecodecs.jpeg8_encode(np.zeros((size, size), "<u2"), lossless=True, bitspersample=16))
    monkeypatch.setattr(decoder_process, "_PROGRAM", changed_worker(tmp_path, _ADDRESS_SPACE_BYTES=260 << 20))
    with pytest.raises(InstanceRefused, match="more memory"):
        decode(process, large, Order(Codec.JPEG, size, size, 1, 2))
    number = pid(process)
    assert decode(process, *small[1:]) == small[0].tobytes()
    assert pid(process) == number


def test_a_decoder_that_does_not_start_is_named_with_its_fix(process, tmp_path, monkeypatch):
    (broken := tmp_path / "worker.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.setattr(decoder_process, "_PROGRAM", broken)
    _, codestream, order = image()
    with pytest.raises(InstanceRefused, match="pip install"):
        decode(process, codestream, order)


def test_what_a_terminal_sends_to_all_does_not_end_it(process):
    """Ctrl-C reaches every process in front; the node still sends what it has begun."""
    words, codestream, order = image()
    decode(process, codestream, order)
    first = pid(process)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(first, number)
    assert decode(process, codestream, order) == words.tobytes()
    assert pid(process) == first


ENDING = """
import sys
from tests.dicom.transcode.test_decoder_process import DecoderProcess, decode, image, pid
process = DecoderProcess()
_, codestream, order = image()
decode(process, codestream, order)
print(pid(process), flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "import os; os._exit(1)", "import os; os.kill(os.getpid(), 9)"])
def test_it_ends_with_the_one_that_it_works_for(end):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENDING.format(end=end)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    wait_until(lambda: not Path(f"/proc/{int(done.stdout)}").exists())


def test_it_may_be_ended_while_somebody_waits_for_it(process):
    words, codestream, order = image(1500, 1400)
    with pytest.raises(InstanceRefused, match="broke down"):
        process.decode(order, codestream, lambda _part: process.end())
    assert decode(process, codestream, order) == words.tobytes()
