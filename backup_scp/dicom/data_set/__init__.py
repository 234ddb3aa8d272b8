"""The wanted elements of an encoded Data Set, in any Transfer Syntax, and never its Pixel Data (PS3.5 7).

Memory is flat and work is bounded whatever the bytes say: nothing recurses, lengths are held against the stream's
real size, and after ``WORK_BYTES`` read, or inflated, the scan gives up.

Lenient where senders are sloppy: elements out of order, File Meta Information inside the Data Set, Value
Representations that do not exist, missing delimiters, and a Data Set that is not encoded as its Transfer Syntax says.
"""

from backup_scp.dicom.data_set.byte_source import WORK_BYTES
from backup_scp.dicom.data_set.element_header import Elements
from backup_scp.dicom.data_set.scanning import IDENTITY, Scanned, read, scan
from backup_scp.dicom.data_set.sequences import items

__all__ = ["IDENTITY", "WORK_BYTES", "Elements", "Scanned", "items", "read", "scan"]
