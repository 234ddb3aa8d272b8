"""The node's own background work: read all files again, rebuild a lost index, count rejections, foresee a full disk.

It imports ``services``, ``ports``, ``dicom``, ``machine`` and ``errors`` only.
"""
