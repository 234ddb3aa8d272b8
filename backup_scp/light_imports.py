"""Keeps out of the process what pydicom would load to see whether it is there, until it is needed.

As soon as it is imported pydicom loads numpy and every decoder that is installed, to ask for their versions: 40 MB and
a quarter of a second.  A node that keeps bytes needs none of them.  Where pixels are decoded, ``let_in`` gives pydicom
the chance to look again: its part for pixels is loaded afresh, and what it finds by then is the real thing.
"""

from __future__ import annotations

import re
import sys
import threading
from types import ModuleType, SimpleNamespace

_DECODERS = frozenset({"PIL", "gdcm", "jpeg_ls", "libjpeg", "numpy", "openjpeg", "pylibjpeg", "rle"})
_NEVER = frozenset({"requests"})  # downloads pydicom's test data
_PIXELS = "pydicom.pixels"
_RELEASE = re.compile(r"\d+\.\d+\.\d+")  # as GDCM says it: pydicom reads numbers


class _Finder:
    """Finds that some modules are not there, as if they were not installed; it is asked before all others.

    To write None in ``sys.modules`` would do the same, were there nobody who takes what stands there for a module.
    """

    missing: frozenset[str] = frozenset()

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name in self.missing:
            raise ModuleNotFoundError(f"{name} is kept out", name=name)


_finder = _Finder()
_lock = threading.Lock()


def keep_out() -> None:
    """Let pydicom find neither numpy nor a decoder; where it is imported already there is nothing to gain."""
    if "pydicom" in sys.modules or _finder.missing:
        return
    _finder.missing = _DECODERS | _NEVER
    sys.meta_path.insert(0, _finder)


def let_in() -> None:
    """Undo ``keep_out`` for the decoders; call this before ``pydicom.pixels`` is imported to use it.

    GDCM alone stays out: it decodes in a process of its own (``transcode.decoders``), which begins afresh and loads
    the real one.  Here pydicom finds something that says its version, where it is installed.
    """
    with _lock:
        if "numpy" not in _finder.missing:
            return
        _finder.missing = _NEVER
        for name in [each for each in sys.modules if each == _PIXELS or each.startswith(f"{_PIXELS}.")]:
            del sys.modules[name]  # they have seen that nothing is there
        if release := _release_of_gdcm():
            stand_in = ModuleType("gdcm", "Says the version of GDCM, and can do nothing.")
            stand_in.__dict__["Version"] = SimpleNamespace(GetVersion=lambda: release)
            sys.modules.setdefault("gdcm", stand_in)
        import pydicom.pixels  # noqa: F401 - now, while other threads wait


def _release_of_gdcm() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = _RELEASE.match(version("python-gdcm"))
    except PackageNotFoundError:
        return ""
    return found[0] if found else ""
