"""Tables of DICOM Web services for the Conformance Statement, from the table of routes and from that of permissions."""

from __future__ import annotations

from pydicom.datadict import dictionary_description
from pydicom.uid import UID, RLELossless

from backup_scp.dicom.attributes import Attribute, Level
from backup_scp.ports import RemoteAE
from backup_scp.services.permissions import RIGHT_TO_USE, CallerKind, Right, may, remote_may
from backup_scp.web.dicomweb.qido.parameters import NAMES
from backup_scp.web.dicomweb.qido.result_tables import IF_KNOWN, ITEM_KEYS, REQUIRED
from backup_scp.web.dicomweb.qido.result_writer import OF_THE_NODE
from backup_scp.web.dicomweb.stow.store_result import StoreFailure
from backup_scp.web.dicomweb.table import ROUTES
from backup_scp.web.dicomweb.wado.rendering_request import PARAMETERS
from backup_scp.web.dicomweb.wado.retrieve_frames import MEDIA_TYPES, media_type_of
from docs.conformance_tables import table

_PARAMETERS = {
    "fuzzymatching": "each word of the key, in any order, begins a word of the name (the matching FUZZY of Table 5-3)",
    "emptyvaluematching": 'two quotation marks (`""`) match an attribute without a value',
    "multiplevaluematching": "the entity has each of several values, which a backslash separates",
    "includefield": "further attributes by keyword or tag, separated by commas, or `all`; may be repeated",
    "limit": "a whole number; without it there is no limit",
    "offset": "a whole number",
    "accept": "a media type, for callers who cannot set a header",
}

_RENDERING = {
    "window": "`CENTER,WIDTH`, perhaps with `,linear`, `,linear-exact` or `,sigmoid`; in place of the image's own",
    "viewport": "`WIDTH,HEIGHT` that it must fit into, perhaps with `,LEFT,TOP,WIDTH,HEIGHT` of the part to show",
    "quality": "of JPEG, 1 to 100",
    "accept": "a media type, for callers who cannot set a header",
}
_COMPRESSED = "1.2.840.10008.1.2.4."


def web_resources() -> str:
    """Section 5.3: every resource and method below ``/dicom-web``."""
    rows = (
        (
            f"`{route.method} {route.template}`",
            route.transaction,
            route.clause,
            route.right,
            ", ".join(f"`{offer}`" for offer in route.offers),
        )
        for route in ROUTES
    )
    return table(("Resource", "Transaction", "PS3.18", "Right", "Media types, the default first"), rows)


def web_search_parameters() -> str:
    """Section 5.3: the query parameters of a search besides the keys."""
    return table(("Parameter", "Meaning"), ((f"`{name}`", _PARAMETERS[name]) for name in NAMES))


def web_results() -> str:
    """Section 5.3: what each result of a search has."""
    rows = [("any", *_named(attribute)) for attribute in OF_THE_NODE]
    for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
        for attribute in REQUIRED[level]:
            rows.append((level.value, *_named(attribute)))
            rows += [(level.value, *_named(key, "> ")) for key in ITEM_KEYS.get(attribute.tag, ())]
    return table(("Level", "Attribute", "Tag", "When"), rows)


def _named(attribute: Attribute, mark: str = "") -> tuple[str, str, str]:
    tag = attribute.tag
    when = "if known" if tag in IF_KNOWN else "always"
    return mark + dictionary_description(tag), f"({tag >> 16:04X},{tag & 0xFFFF:04X})", when


def web_frame_types() -> str:
    """Section 5.3: the media type of each compressed frame."""
    syntaxes = (*(_COMPRESSED + end for end in MEDIA_TYPES), str(RLELossless))
    rows = ((UID(uid).name, uid, f"`{media_type_of(uid)}`") for uid in syntaxes)
    return table(("Transfer Syntax", "UID", "Media type"), rows)


def web_rendering_parameters() -> str:
    """Section 5.3: how a caller says how an image is to be rendered."""
    return table(("Parameter", "Meaning"), ((f"`{name}`", _RENDERING[name]) for name in PARAMETERS))


_OF_DIMSE = (CallerKind.THIS_MACHINE, CallerKind.CONFIGURED_AE, CallerKind.UNKNOWN_AE, CallerKind.REFUSED_AE)
_LIMITED = RemoteAE("", "", "", services=frozenset(), destination=False)


def dimse_permissions() -> str:
    """Section 8.7: who may do what over DIMSE."""

    def allowed(kind: CallerKind, right: Right) -> str:
        if kind is CallerKind.CONFIGURED_AE and may(kind, right) and not remote_may(_LIMITED, right):
            return "unless its settings deny it"
        return "yes" if may(kind, right) else "no"

    rights = (*RIGHT_TO_USE.values(), Right.ECHO, Right.REPORT, Right.RECEIVE)
    rows = ((kind.value, *(allowed(kind, right) for right in rights)) for kind in _OF_DIMSE)
    return table(("Caller", *(right.value for right in rights)), rows)


def permissions() -> str:
    """Section 8.6: who may do what over the web."""
    kinds = [kind for kind in CallerKind if kind not in _OF_DIMSE[1:]]
    rights = [right for right in Right if right not in _DIMSE_ALONE]
    rows = ((kind.value, *("yes" if may(kind, right) else "no" for right in rights)) for kind in kinds)
    return table(("Caller", *(right.value for right in rights)), rows)


_DIMSE_ALONE = {Right.ECHO, Right.MOVE, Right.COMMIT, Right.REPORT, Right.RECEIVE}


_STORE_FAILURES = {
    StoreFailure.PROCESSING_FAILURE: "an error in the node itself",
    StoreFailure.OUT_OF_RESOURCES: "no room, or archive or index cannot be used now: send it again later",
    StoreFailure.DOES_NOT_MATCH: "its parts name different instances, or metadata cannot be encoded",
    StoreFailure.ANOTHER_STUDY: "it belongs to another study than that of the URL",
    StoreFailure.CANNOT_UNDERSTAND: "the part is no DICOM file",
}


def web_store_failures() -> str:
    """Section 5.3.1.3: why an image was not stored."""
    rows = ((f"{reason:04X}", _STORE_FAILURES[reason]) for reason in StoreFailure)
    return table(("Failure Reason (0008,1197)", "Condition"), rows)
