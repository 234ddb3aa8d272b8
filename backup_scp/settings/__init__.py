"""The settings: one TOML file, then the environment, read once; conf/backup-scp.toml explains each of them.

``BACKUP_SCP_NODE__PORT=11113`` sets ``port`` of ``[node]``; ``BACKUP_SCP_REMOTE`` takes the whole list of remote AEs as
a JSON array and replaces the file's.  ``BACKUP_SCP_HOME`` is the folder of all data.  Variables with our prefix and no
double underscore are not settings (container platforms make some by themselves).
"""

from backup_scp.settings.reading import DEFAULT_HOME, load
from backup_scp.settings.sections import NodeSettings, RemoteSettings, Sections
from backup_scp.settings.values import Settings

__all__ = ["DEFAULT_HOME", "NodeSettings", "RemoteSettings", "Sections", "Settings", "load"]
