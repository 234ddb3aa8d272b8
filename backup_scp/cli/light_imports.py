"""Keeps out of the process what pydicom would load to see whether it is there.

As soon as it is imported pydicom loads numpy and every decoder that is installed, to ask for their versions: 40 MB and
a quarter of a second.  A node that keeps bytes needs none of them; where pixels are decoded, that happens in a process
of its own (``transcode.decoder_process``).
"""

from __future__ import annotations

import sys

_KEPT_OUT = frozenset({
    "PIL", "gdcm", "jpeg_ls", "libjpeg", "numpy", "openjpeg", "pylibjpeg", "rle",
    "requests",  # downloads pydicom's test data
})  # fmt: skip


class _Finder:
    """Finds that some modules are not there, as if they were not installed; it is asked before all others.

    To write None in ``sys.modules`` would do the same, were there nobody who takes what stands there for a module.
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name in _KEPT_OUT:
            raise ModuleNotFoundError(f"{name} is kept out", name=name)


def keep_out() -> None:
    """Let pydicom find neither numpy nor a decoder; where it is imported already there is nothing to gain."""
    if "pydicom" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
