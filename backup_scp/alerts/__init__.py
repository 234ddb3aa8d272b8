"""Channels for alerts: e-mail by SMTP, and JSON to a webhook.

Each implements ``ports.AlertChannel``.  It may import ``ports``, ``machine`` and ``errors`` only.
"""
