"""The use cases: ingest, verify, rebuild, restore, storage commitment.

They see the archive, the index and the destinations through ``ports``.  They import ``ports``, ``dicom``, ``machine``
and ``errors`` only.
"""
