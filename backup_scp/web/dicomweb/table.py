"""All resources below ``/dicom-web``."""

from __future__ import annotations

from backup_scp.web.dicomweb import commitment_requests, inventories, wado
from backup_scp.web.dicomweb.qido import searching
from backup_scp.web.dicomweb.stow import store_instances
from backup_scp.web.route import Route

ROUTES: tuple[Route, ...] = (
    *searching.ROUTES,
    *wado.ROUTES,
    *store_instances.ROUTES,
    *commitment_requests.ROUTES,
    *inventories.ROUTES,
)
