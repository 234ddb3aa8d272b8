"""STOW-RS: storing over HTTP (PS3.18 10.5).  Each image enters by ``services.ingest``, as over DIMSE."""
