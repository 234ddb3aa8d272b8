"""Our user information in every A-ASSOCIATE PDU (PS3.8 D.1, PS3.7 D.3.3.2)."""

from __future__ import annotations

from pydicom.uid import UID

from backup_scp.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from backup_scp.dimse.upper_layer.codecs import (
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1


def of_ourselves(
    maximum_pdu_length: int,
) -> tuple[MaximumLengthNotification, ImplementationClassUIDNotification, ImplementationVersionNameNotification]:
    """Return the items for our maximum PDU length, in bytes, and our implementation."""
    maximum = MaximumLengthNotification()
    maximum.maximum_length_received = maximum_pdu_length
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return maximum, implementation, version
