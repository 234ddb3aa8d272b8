"""Write encoded Data Sets in the DICOM JSON Model (PS3.18 F) and the Native DICOM Model (PS3.19 A.1, XML).

``data_set_text.py`` walks the bytes; ``json_text.py`` and ``xml_text.py`` write one element.  Text is Unicode.  Long
binary values become URIs.
"""

from backup_scp.dicom.model_text.data_set_text import INLINE_BYTES, DataSetText, data_set_text
from backup_scp.dicom.model_text.json_text import JSON
from backup_scp.dicom.model_text.model_values import ModelText
from backup_scp.dicom.model_text.xml_text import XML

__all__ = ["INLINE_BYTES", "JSON", "XML", "DataSetText", "ModelText", "data_set_text"]
