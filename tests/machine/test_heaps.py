"""Many threads share few heaps."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

_HEAPS = """
import ctypes, threading
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
meet = threading.Barrier(16)
def use():
    meet.wait()
    libc.malloc(10_000)
    meet.wait()
threads = [threading.Thread(target=use) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc makes a heap for each thread")
@pytest.mark.parametrize(
    ("call", "are_few"), [("", False), ("from backup_scp.machine.heaps import share_heaps; share_heaps()", True)]
)
def test_threads_share_two_heaps(call, are_few):
    said = subprocess.run([sys.executable, "-c", _HEAPS.format(call=call)], capture_output=True, text=True, check=True)
    assert (len(re.findall("<heap nr", said.stdout)) <= 2) is are_few
