"""The settings: read once, from a TOML file and then the environment; conf/backup-scp.toml explains each of them.

``BACKUP_SCP_NODE__PORT=11113`` sets ``port`` of ``[node]``; ``BACKUP_SCP_REMOTE`` takes the whole list of remote AEs as
a JSON array and replaces the file's, and so does ``BACKUP_SCP_COPY`` for the copies.  The folder of all data is
``BACKUP_SCP_HOME``, else ``BACKUP_SCP_NODE__HOME``, else ``home`` of ``[node]`` in the file, else ``backup-scp-data``
in the working folder.  A variable with our prefix that is no setting is an error, unless a container platform has set
it.
"""

from backup_scp.node.settings.reading import DEFAULT_HOME, SYSTEM_FILE, file_in_home, find_file, load, load_text
from backup_scp.node.settings.remote_section import RemoteSettings
from backup_scp.node.settings.sections import CopySettings, NodeSettings, Sections
from backup_scp.node.settings.values import Settings, first_line

__all__ = [
    "DEFAULT_HOME",
    "SYSTEM_FILE",
    "CopySettings",
    "NodeSettings",
    "RemoteSettings",
    "Sections",
    "Settings",
    "file_in_home",
    "find_file",
    "first_line",
    "load",
    "load_text",
]
