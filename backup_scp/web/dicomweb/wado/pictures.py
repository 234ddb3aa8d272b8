"""Render frames of a stored instance as JPEG, PNG or GIF."""

from __future__ import annotations

from collections.abc import Sequence

from backup_scp.dicom.rendering.softcopy_state import SoftcopyState
from backup_scp.errors import InstanceRefused
from backup_scp.ports import StoredVersion
from backup_scp.services.renderable_frames import RenderableFrames
from backup_scp.web.dicomweb.wado import resources
from backup_scp.web.dicomweb.wado.rendering_request import RenderingRequest
from backup_scp.web.media_types import Offer
from backup_scp.web.problems import Problem
from backup_scp.web.stores import Stores

JPEG, PNG, GIF = Offer("image/jpeg"), Offer("image/png"), Offer("image/gif")
FORMATS = {JPEG.name: "jpeg", PNG.name: "png", GIF.name: "gif"}
_MOST_IN_MOTION = 500
_MOST_MOVING_BYTES = 256 << 20


def number_of_frames(stores: Stores, held: StoredVersion) -> int:
    """Return how many frames an instance has.

    Raises
    ------
    InstanceRefused
        It has no pixels.
    """
    with resources.opened(stores, held) as file, RenderableFrames.of(file) as frames:
        return frames.count


def picture(
    stores: Stores,
    held: StoredVersion,
    numbers: Sequence[int] | None,
    offer: Offer,
    wanted: RenderingRequest,
    state: SoftcopyState | None = None,
) -> bytes:
    """Render frames: the one that stands for all without ``numbers``, all in motion for an empty list.

    Parameters
    ----------
    state
        Says how, in place of the image.

    Raises
    ------
    InstanceRefused
        It has no pixels, or they cannot be rendered.
    Problem
        404: there is no such frame.
    """
    with resources.opened(stores, held) as file, RenderableFrames.of(file) as frames:
        listed = _listed(frames, numbers)
        if max(listed) > frames.count:
            raise Problem(404, f"There is no frame {max(listed)}: the last one is {frames.count}")
        return frames.rendered(listed, FORMATS[offer.name], wanted, state)


def _listed(frames: RenderableFrames, numbers: Sequence[int] | None) -> Sequence[int]:
    if numbers is None:
        return [frames.representative]
    if numbers:
        return numbers
    last = frames.count
    if last > _MOST_IN_MOTION or last * frames.frame_bytes > _MOST_MOVING_BYTES:
        raise InstanceRefused(f"it has too much for one GIF ({last} frames): ask for frames, or as image/jpeg")
    return range(1, last + 1)
