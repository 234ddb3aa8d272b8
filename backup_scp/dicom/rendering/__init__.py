"""Render frames for people: modality and VOI transformation, colours, size, and encoding as JPEG, PNG or GIF.

``display.py`` reads how a Data Set wants to be displayed, ``planes.py`` what lies on its pixels, and
``softcopy_state.py`` what a presentation state says instead.  ``render_process.py`` lets other processes do the work
(``render_worker.py``), which alone import numpy and imagecodecs.
"""

from backup_scp.dicom.rendering.display import DISPLAY_TAGS, Pixels, Window, display_of
from backup_scp.dicom.rendering.render_process import can_render, prepare, render
from backup_scp.dicom.rendering.thinning import thinned

__all__ = ["DISPLAY_TAGS", "Pixels", "Window", "can_render", "display_of", "prepare", "render", "thinned"]
