"""Write elements of any kind in the Native DICOM Model (PS3.19 A.1)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from xml.sax.saxutils import quoteattr

from backup_scp.dicom.native_model import text_attribute


class _XML:
    """Implements ``ModelText``."""

    name = "xml"

    def values(self, tag: int, vr: str, text: str) -> str:
        keyword = _keyword(tag)
        written = text_attribute(tag, vr, keyword)(text)
        return written if keyword else written.replace(' keyword=""', "", 1)

    def binary(self, tag: int, vr: str, value: bytes) -> str:
        return _attribute(tag, vr, f"<InlineBinary>{b64encode(value).decode()}</InlineBinary>" if value else "")

    def bulk(self, tag: int, vr: str, uri: str) -> str:
        return _attribute(tag, vr, f"<BulkData uri={quoteattr(uri)}/>")

    def sequence(self, tag: int, items: Iterable[str]) -> str:
        numbered = (f'<Item number="{number}">{item}</Item>' for number, item in enumerate(items, 1))
        return _attribute(tag, "SQ", "".join(numbered))

    def item(self, elements: Iterable[str]) -> str:
        return "".join(elements)


XML = _XML()
"""The Native DICOM Model."""


@lru_cache(maxsize=4096)
def _keyword(tag: int) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag)


def _attribute(tag: int, vr: str, inside: str) -> str:
    keyword = f' keyword="{named}"' if (named := _keyword(tag)) else ""
    return f'<DicomAttribute tag="{tag:08X}" vr="{vr}"{keyword}>{inside}</DicomAttribute>'
