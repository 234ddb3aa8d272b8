"""All errors of backup-scp, as a tree.

::

    BackupSCPError
    ├── Invalid                       the sender or the user must change something
    │   ├── InvalidDataSet              Command Set and Data Set disagree, or neither names an instance
    │   │   └── AnotherStudy              an image of another study than the one it is stored into
    │   ├── InvalidIdentifier           a query or retrieve Identifier that PS3.4 does not allow
    │   ├── InvalidActionInformation    a Storage Commitment request that PS3.4 does not allow
    │   ├── InvalidSettings             a setting that cannot work
    │   │   └── SettingsChanged           the settings file is no more what was shown
    │   ├── InvalidSelection            a command that selects nothing, or contradicts itself
    │   ├── NoArchive                   there is no archive where the settings look for it
    │   ├── NotOwner                    the archive belongs to another user of this system
    │   └── NotDICOM                    a file that is not a DICOM file
    ├── Unavailable                   try again later; nothing was lost
    │   ├── ArchiveUnavailable          the archive cannot be written or read
    │   │   └── ArchiveFull             no room for this Data Set
    │   ├── IndexUnavailable            the index does not answer
    │   │   ├── IndexDamaged              its file changed or is gone: a rebuild makes it again
    │   │   └── MatchesUncounted          so the images of a retrieve cannot be counted
    │   ├── AccountsUnavailable         the database of users does not answer
    │   ├── ProviderUnavailable         the provider of logins does not answer
    │   ├── SourceUnavailable           a file to be imported cannot be read
    │   ├── ResourceLimitation          no further Storage Commitment request can be taken
    │   └── DestinationUnavailable      a remote AE or folder cannot be reached
    │       ├── DestinationAway           a drive that is not connected: no fault, it comes back
    │       │   └── DestinationForeign      a drive is connected, and it is another archive's
    │       ├── DestinationBusy           it accepts no further Association for the moment
    │       ├── DestinationSilent         it does not answer any more
    │       ├── DestinationRefuses        it rejects us, or its name is unknown: a person must change something
    │       └── NothingAccepted           it accepts no proposed Presentation Context
    ├── Refused                       do not retry: the answer stays the same until something is changed
    │   ├── NotAuthorised               this caller may not do this
    │   ├── ProviderRefused             a login at the provider failed, or cannot be trusted
    │   ├── MoveDestinationUnknown      a Move Destination that is not configured
    │   ├── DuplicateTransaction        a Transaction UID that was used before
    │   └── InstanceRefused             a destination refused one SOP Instance, with its Status
    │       ├── NoRoom                    it has no room: it may take the instance later
    │       └── InstanceUnconfirmed       it did not confirm the instance: send it again
    └── Damaged                       stored bytes differ from the received ones
        ├── DigestMismatch              the bytes changed
        │   └── OtherKey                  they are sealed for another recovery key
        └── FileMissing                 the file is gone

``str(error)`` is safe to log and to send: it names UIDs, AE titles, sizes and places, never a patient.
"""

from __future__ import annotations


class BackupSCPError(Exception):
    """Base class of all errors; the text is safe to log and to send."""


class Invalid(BackupSCPError):  # noqa: N818 - the tree above reads as English
    """The sender or the user must change something."""


class InvalidDataSet(Invalid):
    """Command Set and Data Set disagree, or neither names an instance."""


class AnotherStudy(InvalidDataSet):
    """An image that was sent to the resource of a study names another study (PS3.18 10.5.1)."""


class InvalidIdentifier(Invalid):
    """A query or retrieve Identifier that PS3.4 C.4 does not allow."""


class InvalidActionInformation(Invalid):
    """A Storage Commitment request that PS3.4 J.3.2.1.1 does not allow."""


class InvalidSettings(Invalid):
    """A setting that cannot work."""


class SettingsChanged(InvalidSettings):
    """The settings file is no more what was shown to the person who changes it."""


class InvalidSelection(Invalid):
    """A command that selects nothing, or contradicts itself."""


class NoArchive(Invalid):
    """There is no archive where the settings look for it."""


class NotOwner(Invalid):
    """The archive belongs to another user of this system."""


class NotDICOM(Invalid):
    """A file that is not a DICOM file."""


class Unavailable(BackupSCPError):  # noqa: N818
    """Try again later; nothing was lost."""


class AlertNotSent(Unavailable):
    """A channel took no alert."""


class ArchiveUnavailable(Unavailable):
    """The archive cannot be written or read."""


class ArchiveFull(ArchiveUnavailable):
    """No room for this Data Set."""


class IndexUnavailable(Unavailable):
    """The index does not answer."""


class IndexDamaged(IndexUnavailable):
    """The file of the index changed or is gone; a rebuild makes it again from the archive."""


class MatchesUncounted(IndexUnavailable):
    """The images that a retrieve selects cannot be counted."""


class AccountsUnavailable(Unavailable):
    """The database of users does not answer: nobody can log in."""


class ProviderUnavailable(Unavailable):
    """The provider of logins does not answer, or not as OpenID Connect says."""


class SourceUnavailable(Unavailable):
    """A file to be imported cannot be read: it may be an image."""


class ResourceLimitation(Unavailable):
    """No further request of this kind can be taken for the moment."""


class DestinationUnavailable(Unavailable):
    """A remote AE or a folder cannot be reached."""


class DestinationAway(DestinationUnavailable):
    """A drive that takes copies is not connected: it may be at home, or in the safe."""


class AllowanceUsed(DestinationAway):
    """What a copy may send and read in a month is used."""


class CopyingStopped(DestinationUnavailable):
    """An alarm stops the work at all copies, until a person has looked."""


class DestinationForeign(DestinationAway):
    """The drive that is connected takes the copies of another archive."""


class DestinationUnreachable(DestinationUnavailable):
    """No connection to the port of a remote AE can be opened.

    Parameters
    ----------
    message
        One sentence for a technician, with the fix.
    reason, fix
        Why, and what to check.
    """

    def __init__(self, message: str, reason: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.fix = fix


class DestinationBusy(DestinationUnavailable):
    """A remote AE accepts no further Association for the moment."""


class DestinationSilent(DestinationUnavailable):
    """A remote AE accepts Associations, but did not answer requests several times in a row."""


class DestinationRefuses(DestinationUnavailable):
    """A remote AE rejects us permanently, or its name or certificate is wrong: waiting alone does not help."""


class SiteNotTaken(DestinationRefuses):
    """Another node does not take images of one clinic from this node; those of others it may take."""


class NothingAccepted(DestinationUnavailable):
    """A remote AE accepts none of the Presentation Contexts of an Association."""


class Refused(BackupSCPError):  # noqa: N818
    """A request was refused, and a retry alone does not change that.

    Parameters
    ----------
    message
        One sentence for a technician.
    fix
        What a person here can do to change the answer; empty when there is nothing.
    """

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


class NotAuthorised(Refused):
    """A caller has no permission for its request."""


class ProviderRefused(Refused):
    """A login at the provider failed, or what it says cannot be trusted."""


class MoveDestinationUnknown(Refused):
    """A Move Destination that is not configured."""


class DuplicateTransaction(Refused):
    """A Transaction UID that the same AE has used before (PS3.4 J.3.2.1.2)."""


class InstanceRefused(Refused):
    """A destination refused one SOP Instance.

    Parameters
    ----------
    message
        One sentence for a technician.
    status
        The DIMSE Status that the destination returned; 0 when it returned none.
    fix
        What a person can do; empty when that is not known.
    """

    def __init__(self, message: str, status: int = 0, fix: str = "") -> None:
        super().__init__(message, fix)
        self.status = status


class NoRoom(InstanceRefused):
    """A destination has no room for one SOP Instance (Status A7xx); it may take it after somebody makes room."""


class InstanceUnconfirmed(InstanceRefused):
    """A destination broke off, was silent or gave no valid answer: it may or may not have the SOP Instance."""


class Damaged(BackupSCPError):  # noqa: N818
    """Stored bytes differ from the received ones."""


class DigestMismatch(Damaged):
    """The bytes of a stored file changed."""


class OtherKey(DigestMismatch):
    """A file is sealed for another recovery key than the given one."""


class NotOurFile(DigestMismatch):
    """Bytes that came back are not a file that an archive of ours has written."""


class FileMissing(Damaged):
    """A stored file is gone."""
