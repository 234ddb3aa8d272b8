"""Where copies of images are kept: one file for each kind, each a ``ports.Destination``.

It imports ``ports``, ``dicom``, ``machine`` and ``errors`` only.
"""
