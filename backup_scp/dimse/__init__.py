"""DICOM on the wire.

It alone uses pynetdicom.  It imports ``services``, ``ports``, ``dicom``, ``machine`` and ``errors`` only.

Read in this order: ``association/server`` takes a call, ``association/acceptance`` answers the A-ASSOCIATE-RQ,
``association/association`` reads and writes messages over ``upper_layer``, ``scp/service_table`` says which service
answers which request.
"""
