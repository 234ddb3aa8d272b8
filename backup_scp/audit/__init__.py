"""The audit log: who did what, in files that show each later change (docs/audit.md), and over syslog to a server.

It imports services, ports and machine.  Nothing here waits for a disk or a server in the thread that reports an entry.
"""
