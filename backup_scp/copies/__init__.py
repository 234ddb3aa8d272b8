"""The places that keep copies of images: one file for each kind of place, each a ``ports.Destination``.

It imports ``services``, ``ports``, ``dicom``, ``machine`` and ``errors`` only.
"""
