"""Keeps out of the process what pydicom would load to see whether it is there.

As soon as it is imported pydicom loads GDCM, 18 MB and a tenth of a second, to ask for its version, and ``requests``,
which downloads its test data.  A node that keeps bytes needs neither.  GDCM decodes in a process of its own
(``transcode.decoders``), which begins afresh and loads the real one.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType, SimpleNamespace
from typing import cast

_RELEASE = re.compile(r"\d+\.\d+\.\d+")  # as GDCM says it: pydicom reads numbers


def keep_out() -> None:
    """Let pydicom find GDCM, where it is installed, without loading it; call this before pydicom is imported."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules.setdefault("requests", None)  # its import fails, as where it is not installed
    try:
        release = _RELEASE.match(version("python-gdcm"))
    except PackageNotFoundError:
        return
    if release is None:
        return
    stand_in = ModuleType("gdcm", "Says the version of GDCM, and can do nothing.")
    stand_in.__dict__["Version"] = SimpleNamespace(GetVersion=lambda: release[0])
    modules.setdefault("gdcm", stand_in)
