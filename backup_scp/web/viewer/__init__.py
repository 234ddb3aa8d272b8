"""The viewer's page, built from ``source/`` (docs/adr/0054)."""
