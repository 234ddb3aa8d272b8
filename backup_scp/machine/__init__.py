"""What the computer gives: files that survive a power cut, locks, digests, the clock, owners, addresses.

It knows nothing of DICOM.  It imports ``errors`` only.
"""
