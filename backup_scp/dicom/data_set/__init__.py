"""Read the wanted elements of an encoded Data Set, in any Transfer Syntax, without its Pixel Data (PS3.5 7).

Memory and work are limited for any bytes: there is no recursion, lengths are compared with the stream's real size, and
the scan stops after ``WORK_BYTES`` read or inflated.

It tolerates elements out of order, File Meta Information inside the Data Set, unknown Value Representations, missing
delimiters, and a Data Set that is not encoded as its Transfer Syntax says.
"""

from backup_scp.dicom.data_set.byte_source import CHUNK_BYTES, WORK_BYTES
from backup_scp.dicom.data_set.element_header import Elements
from backup_scp.dicom.data_set.pattern import Part, Pattern, parts_of, varying
from backup_scp.dicom.data_set.scanning import IDENTITY, FoundPixels, Scanned, find_pixels, read, scan
from backup_scp.dicom.data_set.sequences import items

__all__ = [
    "CHUNK_BYTES",
    "IDENTITY",
    "WORK_BYTES",
    "Elements",
    "FoundPixels",
    "Part",
    "Pattern",
    "Scanned",
    "find_pixels",
    "items",
    "parts_of",
    "read",
    "scan",
    "varying",
]
