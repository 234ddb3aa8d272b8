"""The places that keep copies of images: a room for each kind of place, each a ``ports.CopyPlace`` or ``Destination``.

It imports ``services``, ``ports``, ``dicom``, ``machine`` and ``errors`` only.
"""
