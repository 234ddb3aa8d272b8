"""The viewer's page, built from ``viewer/`` (docs/adr/0054)."""
