"""A certificate authority of the clinic's own: certificates for the node, and for consoles that must show one.

Only this room signs certificates.  It may import ``machine`` and ``errors`` only.
"""
