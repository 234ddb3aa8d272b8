"""The viewer's source, and what builds it."""
