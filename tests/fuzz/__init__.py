"""Bytes that no sender should send: made along the grammar of DICOM, then changed, from a seed."""
