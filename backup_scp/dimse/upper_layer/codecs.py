"""pynetdicom's codecs of the A-ASSOCIATE PDUs, set to take what PS3.8 forbids and does no harm.

The only module that knows pynetdicom.  Its settings are those of the process as a whole; pynetdicom documents them as
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

# pynetdicom's own log prints identifiers and pydicom's warnings print values: both are patient data.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
settings.reading_validation_mode = IGNORE
# Identity never blocks: UIDs of any length, AE titles padded with NUL or with an umlaut; ``server`` judges the rest.
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
