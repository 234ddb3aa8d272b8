"""The operating system's services: durable files, locks, digests, the clock, memory, owners, addresses.

It knows nothing of DICOM.  It imports ``errors`` only.
"""
