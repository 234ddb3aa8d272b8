"""Name the image that the viewer shows first in its page, so that a browser asks for it before any script runs."""

from __future__ import annotations

import html
import re

from backup_scp.dicom.attributes import BY_KEYWORD, Level
from backup_scp.dicom.query.conditions import Condition, Query, SingleValue
from backup_scp.ports import StudyReader

_UID = re.compile(r"[0-9.]{1,64}")
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_WITHOUT_PIXELS = tuple(_STORAGE + kind for kind in ("9.", "11.", "66", "67", "88.", "104."))
"""Waveforms, presentation states, raw data and segments, value mappings, reports and key objects, documents."""


def first_image(index: StudyReader, studies: str) -> str:
    """Return a pane with the thumbnail of the first image of a study, as HTML; empty when none is known.

    Parameters
    ----------
    index
        Knows the images that the caller may see.
    studies
        What the page was asked for.  Of two studies the page itself finds the older one.

    Raises
    ------
    IndexUnavailable
    """
    if not _UID.fullmatch(studies):
        return ""
    held = index.retrieve(Query(Level.STUDY, (Condition(BY_KEYWORD["StudyInstanceUID"], SingleValue(studies)),)))
    first = next((one for one in held if not one.sop_class_uid.startswith(_WITHOUT_PIXELS)), None)
    if first is None or not all(map(_UID.fullmatch, (first.series_instance_uid, first.sop_instance_uid))):
        return ""
    path = f"studies/{studies}/series/{first.series_instance_uid}/instances/{first.sop_instance_uid}"
    return (
        '<section class="pane"><div class="preview">'
        f'<img src="../dicom-web/{html.escape(path)}/thumbnail" alt="" data-instance="{html.escape(path)}">'
        "</div></section>"
    )
