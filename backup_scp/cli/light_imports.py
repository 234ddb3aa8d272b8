"""Keep pydicom from importing libraries that the node does not need.

When it is imported, pydicom imports numpy and every installed decoder to read their versions: 40 MB and a quarter of a
second.  A node that stores bytes needs none of them; another process decodes pixels
(``transcode.decoder_process``).
"""

from __future__ import annotations

import sys

_KEPT_OUT = frozenset({
    "PIL", "gdcm", "jpeg_ls", "libjpeg", "numpy", "openjpeg", "pylibjpeg", "rle",
})  # fmt: skip
_IS_FOR = "reportlab"  # makes PDF in any process, and needs PIL
_DOWNLOAD = "pydicom.data.download"  # imports requests, for pydicom's test data; DICOMweb needs it as well


class _Finder:
    """An import finder, called before all others, that hides some modules as if they were not installed.

    None in ``sys.modules`` would do the same, but some code expects every value there to be a module.
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name == "PIL" and _IS_FOR in sys.modules:
            return
        if name in _KEPT_OUT or (name == "requests" and _is_asked_for_by_pydicom()):
            raise ModuleNotFoundError(f"{name} is kept out", name=name)


def _is_asked_for_by_pydicom() -> bool:
    """Tell whether pydicom is just importing requests; it notes the result when it has."""
    return _DOWNLOAD in sys.modules and not hasattr(sys.modules[_DOWNLOAD], "HAVE_REQUESTS")


def keep_out() -> None:
    """Hide numpy and the decoders from pydicom; do nothing when pydicom is imported already."""
    if "pydicom" not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
