"""WADO-RS and WADO-URI: retrieving over HTTP (PS3.18 9, 10.4)."""

from backup_scp.web.dicomweb.wado import bulkdata, instances, metadata, rendered, retrieve_frames, wado_uri

ROUTES = (
    *instances.ROUTES,
    *metadata.ROUTES,
    *retrieve_frames.ROUTES,
    *bulkdata.ROUTES,
    *rendered.ROUTES,
    *wado_uri.ROUTES,
)
