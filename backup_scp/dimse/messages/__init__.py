"""Encode and decode parts of DIMSE messages: Command Sets, Status values, our Data Sets (PS3.7 6.3, 9)."""
