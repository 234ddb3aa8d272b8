"""The newest migration."""

HEAD = "0019"
"""The tables of this release are those after this migration; a test holds it equal to the folder."""
