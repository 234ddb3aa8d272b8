"""DICOM over the network.

Only this room uses pynetdicom.  It imports ``services``, ``ports``, ``dicom``, ``machine`` and ``errors`` only.

Read in this order: ``association/server`` accepts a connection, ``association/acceptance`` answers the A-ASSOCIATE-RQ,
``association/association`` reads and writes messages over ``upper_layer``, ``association/request_dispatch`` passes each
request to its service, ``scp/service_table`` maps requests to services.
"""
