"""QIDO-RS: search for studies, series and instances (PS3.18 8.3.4, 10.6).  C-FIND's table and matching answer it."""
