"""The decoder process: whatever happens to it costs one image, and never the node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from backup_scp.dicom.transcode import decoder_process
from backup_scp.dicom.transcode.decoder_process import Codec, DecoderProcess, Frame, Order
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


def begin(process, codestream, order) -> tuple[Frame, bytearray]:
    """Have a frame decoded into memory of its own."""
    pixels = bytearray(order.size_bytes)
    return process.begin(order, codestream, memoryview(pixels)), pixels


def asked(process) -> int:
    """Return how many frames the process was given and has not answered."""
    return len(process._asked)


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
    with pytest.raises(InstanceRefused, match="their size differs"):
        decode(process, codestream, order._replace(rows=order.columns, columns=order.rows))
    with pytest.raises(InstanceRefused, match="their size differs"):
        decode(process, codestream, order._replace(bytes_per_sample=1))
    assert decode(process, codestream, order) == words.tobytes()


def test_a_process_that_ends_over_a_frame_costs_that_frame(process):
    words, codestream, order = image(1500, 1400)

    def shoot(_part):
        os.kill(pid(process), signal.SIGKILL)

    with pytest.raises(InstanceRefused, match="crashed"):
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
    with pytest.raises(InstanceRefused, match="crashed"):
        decode(process, codestream, order)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_frame_that_takes_too_much_memory_is_refused_and_the_process_stays(process, tmp_path, monkeypatch):
    small, size = image(), 10_000
    large = bytes(imagecodecs.jpeg8_encode(np.zeros((size, size), "<u2"), lossless=True, bitspersample=16))
    monkeypatch.setattr(decoder_process, "_PROGRAM", changed_worker(tmp_path, _ADDRESS_SPACE_BYTES=260 << 20))
    with pytest.raises(InstanceRefused, match="that much memory"):
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
    with pytest.raises(InstanceRefused, match="crashed"):
        process.decode(order, codestream, lambda _part: process.end())
    assert decode(process, codestream, order) == words.tobytes()


def test_two_are_under_way_and_each_gets_its_own_pixels(process):
    first, second = image(seed=1), image(seed=2)
    begun = [begin(process, *each[1:]) for each in (first, second)]
    assert asked(process) == 2
    for frame, _ in begun[::-1]:
        process.finish(frame)
    assert [bytes(pixels) for _, pixels in begun] == [words.tobytes() for words, *_ in (first, second)]
    assert asked(process) == 0


def test_the_first_of_two_fails_and_the_second_is_decoded(process):
    words, codestream, order = image()
    failing, _ = begin(process, b"\xff\xd8 this is no image", order)
    frame, pixels = begin(process, codestream, order)
    number = pid(process)
    process.finish(frame)
    with pytest.raises(InstanceRefused, match="damaged"):
        process.finish(failing)
    assert pixels == words.tobytes()
    assert pid(process) == number


def test_a_process_that_ends_over_one_costs_that_one_and_not_the_next(process):
    large, small = image(600, 300), image()
    process.finish(begin(process, *small[1:])[0])
    os.kill(pid(process), signal.SIGSTOP)  # so that it has not answered when it ends
    (killing, _), (frame, pixels) = begin(process, *large[1:]), begin(process, *small[1:])
    os.kill(pid(process), signal.SIGKILL)
    with pytest.raises(InstanceRefused, match="crashed"):
        process.finish(killing)
    process.finish(frame)
    assert pixels == small[0].tobytes()


def test_what_was_answered_before_it_ended_is_not_lost(process):
    first, second = image(seed=1), image(seed=2)
    (done, pixels), (other, _) = begin(process, *first[1:]), begin(process, *second[1:])
    process.finish(done)
    number = pid(process)
    assert process._process.stdout.peek(1)  # waits for it
    os.kill(number, signal.SIGKILL)
    wait_until(lambda: not is_alive(number))
    process.finish(other)
    assert pixels == first[0].tobytes()
    assert process._process.pid == number


def is_alive(number: int) -> bool:
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_what_does_not_fit_into_the_pipe_is_asked_for_later(process):
    """Else both processes would write, and neither would read."""
    images = [image(1500, 1400, seed=seed) for seed in range(3)]
    assert len(images[0][1]) > decoder_process._PIPE_BYTES < images[0][2].size_bytes
    begun = [begin(process, *each[1:]) for each in images]
    assert asked(process) == 1
    for frame, _ in begun:
        process.finish(frame)
    assert [bytes(pixels) for _, pixels in begun] == [words.tobytes() for words, *_ in images]


def test_where_nobody_can_say_what_a_pipe_holds_one_is_asked_for_at_a_time(process, monkeypatch):
    monkeypatch.setattr(decoder_process, "_enlarge", lambda _: 0)
    images = [image(seed=seed) for seed in range(4)]
    begun = [begin(process, *each[1:]) for each in images]
    assert asked(process) == 1
    process.finish(begun[2][0])
    assert asked(process) == 1  # the last: whoever takes an answer asks for the next
    process.finish(begun[3][0])
    assert [bytes(pixels) for _, pixels in begun] == [words.tobytes() for words, *_ in images]


def test_a_frame_in_parts_comes_after_what_was_begun(process):
    large, small = image(1500, 1400), image()
    frame, pixels = begin(process, *small[1:])
    assert decode(process, *large[1:]) == large[0].tobytes()
    process.finish(frame)
    assert pixels == small[0].tobytes()


def test_to_begin_waits_for_nobody(process):
    """Another thread's frame is being written, and its disk is slow."""
    large, small = image(1500, 1400), image()
    begun: list[tuple[Frame, bytearray]] = []
    thread = threading.Thread(target=lambda: begun.append(begin(process, *small[1:])))

    def write(_part):
        if not thread.ident:
            thread.start()
            thread.join(30)

    process.decode(large[2], large[1], write)
    ((frame, pixels),) = begun
    assert asked(process) == 1
    process.finish(frame)
    assert pixels == small[0].tobytes()


def test_what_is_given_up_is_not_decoded_unless_it_has_begun(process, monkeypatch):
    monkeypatch.setattr(decoder_process, "_enlarge", lambda _: 0)
    words, codestream, order = image()
    (first, _), (second, untouched) = (begin(process, codestream, order) for _ in range(2))
    for frame in (first, second):
        process.give_up(frame)
        with pytest.raises(InstanceRefused, match="any more"):
            process.finish(frame)
    assert decode(process, codestream, order) == words.tobytes()
    assert asked(process) == 0
    assert untouched == bytes(order.size_bytes)


def test_a_frame_that_is_answered_does_not_hold_its_memory(process):
    """The traceback of its refusal holds the frame, and Python 3.12.1 crashes when it collects that with a BytesIO."""
    words, codestream, order = image()
    (good, pixels), (bad, unused) = begin(process, codestream, order), begin(process, b"no image", order)
    process.finish(good)
    assert pixels == words.tobytes()
    with pytest.raises(InstanceRefused) as caught:
        process.finish(bad)
    for memory in (pixels, unused):
        memory.clear()  # BufferError while a view of it is left
    assert caught.value.__traceback__


def test_threads_have_several_under_way(process):
    images = [image(200, 100, seed=seed) for seed in range(24)]

    def decode_all(share):
        begun = [begin(process, *each[1:]) for each in share]
        for frame, _ in begun:
            process.finish(frame)
        return [bytes(pixels) for _, pixels in begun]

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(decode_all, (images[number::6] for number in range(6))))
    assert found == [[words.tobytes() for words, *_ in images[number::6]] for number in range(6)]


def test_a_decoder_that_does_not_start_fails_each_that_was_begun(process, tmp_path, monkeypatch):
    (broken := tmp_path / "worker.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.setattr(decoder_process, "_PROGRAM", broken)
    for frame, _ in [begin(process, *image()[1:]) for _ in range(2)]:
        with pytest.raises(InstanceRefused, match="pip install"):
            process.finish(frame)
