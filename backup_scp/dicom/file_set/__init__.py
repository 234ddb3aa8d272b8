"""File-sets (PS3.10 8): folders of DICOM files that one DICOMDIR describes, as on a drive or in a ZIP archive.

``entries.py`` has what is said of each image, ``directory_keys.py`` which keys its record has, and ``dicomdir.py``
writes the file.
"""

from backup_scp.dicom.file_set.dicomdir import dicomdir
from backup_scp.dicom.file_set.directory_keys import record_type
from backup_scp.dicom.file_set.entries import (
    DICOMDIR,
    Entry,
    Image,
    Patient,
    Series,
    Study,
    entry_of,
    image_of,
    sort_key,
    study_date,
)

__all__ = [
    "DICOMDIR",
    "Entry",
    "Image",
    "Patient",
    "Series",
    "Study",
    "dicomdir",
    "entry_of",
    "image_of",
    "record_type",
    "sort_key",
    "study_date",
]
