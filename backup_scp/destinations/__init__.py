"""Where instances go that is not a network peer: one file for each kind, each a ``ports.Destination``."""
