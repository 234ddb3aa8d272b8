"""The operating system's services: files that survive a power cut, locks, digests, the clock, owners, addresses.

It knows nothing of DICOM.  It imports ``errors`` only.
"""
