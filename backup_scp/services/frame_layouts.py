"""Remember where the frames of Data Sets are: viewers ask for one after the other."""

from __future__ import annotations

from backup_scp.dicom.transcode.stored_frames import FrameLayout, frame_layout
from backup_scp.machine.recent import Recent
from backup_scp.services.plain_data_set import PlainDataSet

_LAYOUTS_BYTES = 8 << 20  # of all that are remembered: of the slices that several viewers scroll through
_LAYOUT_BYTES, _FRAGMENT_BYTES = 2000, 250

_layouts: Recent[FrameLayout] = Recent(
    _LAYOUTS_BYTES, lambda layout: _LAYOUT_BYTES + _FRAGMENT_BYTES * sum(map(len, layout.fragments))
)


def layout_of(data_set: PlainDataSet, sha256: str) -> FrameLayout:
    """Find the frames of a Data Set; the layouts of the last ones are remembered, they depend on its bytes alone.

    Raises
    ------
    InstanceRefused
    """
    if (layout := _layouts.get(sha256)) is None:
        layout = frame_layout(data_set.stream, data_set.read_at, data_set.size_bytes, data_set.transfer_syntax_uid)
        _layouts.keep(sha256, layout)
    return layout
