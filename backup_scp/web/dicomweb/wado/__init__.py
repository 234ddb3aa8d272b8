"""WADO-RS and WADO-URI: retrieving over HTTP (PS3.18 9, 10.4)."""

from backup_scp.web.dicomweb.wado import bulkdata, frames, instances, metadata, rendered, wado_uri

ROUTES = (*instances.ROUTES, *metadata.ROUTES, *frames.ROUTES, *bulkdata.ROUTES, *rendered.ROUTES, *wado_uri.ROUTES)
