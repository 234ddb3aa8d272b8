"""Write elements of any kind in the DICOM JSON Model (PS3.18 F.2)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from json.encoder import encode_basestring

from backup_scp.dicom.json_model import text_element

_EXACT = 1 << 53  # JavaScript's numbers are exact up to here


class _JSON:
    """Implements ``ModelText``."""

    name = "json"

    def values(self, tag: int, vr: str, text: str) -> str:
        if vr in {"SV", "UV"} and any(abs(int(each)) > _EXACT for each in text.split("\\") if each):
            vr_text = text_element(tag, "LO")(text)  # as strings
            return vr_text.replace('"vr":"LO"', f'"vr":"{vr}"', 1)
        return text_element(tag, vr)(text)

    def binary(self, tag: int, vr: str, value: bytes) -> str:
        inline = f',"InlineBinary":"{b64encode(value).decode()}"' if value else ""
        return f'"{tag:08X}":{{"vr":"{vr}"{inline}}}'

    def bulk(self, tag: int, vr: str, uri: str) -> str:
        return f'"{tag:08X}":{{"vr":"{vr}","BulkDataURI":{encode_basestring(uri)}}}'

    def sequence(self, tag: int, items: Iterable[str]) -> str:
        joined = ",".join(items)
        return f'"{tag:08X}":{{"vr":"SQ","Value":[{joined}]}}' if joined else f'"{tag:08X}":{{"vr":"SQ"}}'

    def item(self, elements: Iterable[str]) -> str:
        return f"{{{','.join(elements)}}}"


JSON = _JSON()
"""The DICOM JSON Model."""
