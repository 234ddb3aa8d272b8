"""pynetdicom's codecs of the A-ASSOCIATE PDUs, configured to accept harmless violations of PS3.8.

Only this module imports pynetdicom.  The configuration applies to the whole process; pynetdicom documents it as
``pynetdicom._config``.
"""

from __future__ import annotations

import logging

from pydicom.config import IGNORE, settings
from pynetdicom import _config, build_role
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    ServiceParameter,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_requestor

# pynetdicom's log prints identifiers, and pydicom's warnings print values: both are patient data.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
settings.reading_validation_mode = IGNORE
# Accept UIDs of any length, and AE titles with NUL padding or an umlaut; ``server`` decides on the rest.
_config.VALIDATORS = {"AE": lambda _: (True, ""), "UI": lambda _: (True, "")}
_config.CODECS = ("ascii", "latin-1")

__all__ = [
    "A_ASSOCIATE",
    "A_ASSOCIATE_AC",
    "A_ASSOCIATE_RJ",
    "A_ASSOCIATE_RQ",
    "AsynchronousOperationsWindowNegotiation",
    "ImplementationClassUIDNotification",
    "ImplementationVersionNameNotification",
    "MaximumLengthNotification",
    "PresentationContext",
    "SCP_SCU_RoleSelectionNegotiation",
    "SOPClassExtendedNegotiation",
    "ServiceParameter",
    "build_context",
    "build_role",
    "negotiate_as_requestor",
]
