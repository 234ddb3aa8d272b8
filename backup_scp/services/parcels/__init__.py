"""What a person takes along of a study: its DICOM files with a DICOMDIR, its pictures, or a document.

``study_parcels.py`` is the way in.  The caller gives readers that are narrowed to what the person may see; nothing that
is made here reads past them.
"""

from backup_scp.services.parcels.parcel import Parcel, ParcelKind, Seen, Words
from backup_scp.services.parcels.study_parcels import StudyParcels

__all__ = ["Parcel", "ParcelKind", "Seen", "StudyParcels", "Words"]
