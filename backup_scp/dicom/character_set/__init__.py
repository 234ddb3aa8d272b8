"""Convert between bytes and Unicode by Specific Character Set (0008,0005) (PS3.3 C.12.1.1.2, PS3.5 6.1).

The bytes of all values are decoded together, by their escape sequences, and then split into values, component groups
and components: a character of JIS X 0208, GB18030 or GBK may contain the bytes 3D, 5C or 5E.
"""

from backup_scp.dicom.character_set.coded_sets import DEFAULT, UTF_8, CharacterSet, parse
from backup_scp.dicom.character_set.decoding import decode
from backup_scp.dicom.character_set.encoding import choose, encode, encode_all

__all__ = ["DEFAULT", "UTF_8", "CharacterSet", "choose", "decode", "encode", "encode_all", "parse"]
