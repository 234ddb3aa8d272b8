"""The codes of audit messages (PS3.16 CID 400 to 405, PS3.15 A.5.1.2)."""

from __future__ import annotations

from typing import NamedTuple

DCM = "DCM"
RFC_3881 = "RFC-3881"
OURS = "99BACKUPSCP"
"""The coding scheme of what the standard has no code for."""


class Code(NamedTuple):
    """A code with its scheme and meaning."""

    value: str
    meaning: str
    scheme: str = DCM


APPLICATION_ACTIVITY = Code("110100", "Application Activity")
AUDIT_LOG_USED = Code("110101", "Audit Log Used")
BEGIN_TRANSFERRING = Code("110102", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
EXPORT = Code("110106", "Export")
IMPORT = Code("110107", "Import")
QUERY = Code("110112", "Query")
SECURITY_ALERT = Code("110113", "Security Alert")
USER_AUTHENTICATION = Code("110114", "User Authentication")

APPLICATION_START = Code("110120", "Application Start")
APPLICATION_STOP = Code("110121", "Application Stop")
LOGIN = Code("110122", "Login")
LOGOUT = Code("110123", "Logout")
NODE_AUTHENTICATION = Code("110126", "Node Authentication")
SOFTWARE_CONFIGURATION = Code("110131", "Software Configuration")
RESTRICTED_FUNCTION = Code("110132", "Use of Restricted Function")
RECORDING_STOPPED = Code("110133", "Audit Recording Stopped")
OBJECT_SECURITY_CHANGED = Code("110135", "Object Security Attributes Changed")
ROLES_CHANGED = Code("110136", "Security Roles Changed")
USER_SECURITY_CHANGED = Code("110137", "User Security Attributes Changed")
SESSION_START = Code("110145", "Session start")
SESSION_STOP = Code("110146", "Session stop")
DAMAGE = Code("damage", "A stored file is damaged", OURS)

APPLICATION = Code("110150", "Application")
APPLICATION_LAUNCHER = Code("110151", "Application Launcher")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")
DESTINATION_MEDIA = Code("110154", "Destination Media")
SOURCE_MEDIA = Code("110155", "Source Media")

MEDIA_URI = Code("110037", "URI")

STUDY_INSTANCE_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
NODE_ID = Code("110182", "Node ID")
PATIENT_NUMBER = Code("2", "Patient Number", RFC_3881)
SEARCH_CRITERIA = Code("10", "Search Criteria", RFC_3881)
URI = Code("12", "URI", RFC_3881)
CORRELATION = Code("correlation", "ID of the Association, request or run", OURS)
