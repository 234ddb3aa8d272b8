"""The DICOM standard, independent of this node: Data Sets, files, character sets, pixels, queries.

It imports ``machine`` and ``errors`` only.
"""
