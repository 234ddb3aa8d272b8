"""The five questions of ``backup-scp setup``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from backup_scp.cli.conversation import Conversation
from backup_scp.cli.output import size
from backup_scp.errors import AlertNotSent, BackupSCPError, InvalidSettings
from backup_scp.machine.disks import Disk, disks
from backup_scp.node import first_settings as first
from backup_scp.node.alert_setup import alert_channels, sample_alert
from backup_scp.node.calling_console import CallingConsole, calling_consoles
from backup_scp.node.remote_aes import echo
from backup_scp.node.settings import SYSTEM_FILE
from backup_scp.node.settings_draft import SettingsDraft
from backup_scp.ports import SettingsKind

_WAIT = "wait"
_POLL_S = 0.2


class Questions:
    """Asks, and changes a draft of the settings by the answers.

    Parameters
    ----------
    talk
        Tells and asks.
    file
        The settings file; None when it lies in the folder that is asked for.

    Attributes
    ----------
    draft
        The settings, after ``ask``.
    """

    draft: SettingsDraft

    def __init__(self, talk: Conversation, file: Path | None) -> None:
        self._talk = talk
        self._file = file

    @property
    def new_copies(self) -> list[str]:
        """Names of the copies that were added."""
        there = {copy.name for copy in self.draft.before.copy}
        return [copy.name for copy in self.draft.settings.copy if copy.name not in there]

    def ask(self) -> None:
        """Ask all of them.

        Raises
        ------
        InvalidSettings
            The settings file that is there is wrong, or cannot be replaced.
        """
        self._talk.tell("Five questions. Enter takes what is in [brackets]. Nothing is written before the end.")
        self._ask_folder()
        self._ask_node()
        self._ask_console()
        self._ask_second_place()
        self._ask_whom_to_tell()

    def _begin(self, question: str) -> None:
        self._talk.tell()
        self._talk.tell(question)

    def _list(self, found: list[Disk]) -> None:
        for disk in found:
            self._talk.tell(f"{disk.path}: {size(disk.free_bytes)} free of {size(disk.size_bytes)}", "   ")

    def _is_fixed(self, section: str, key: str = "") -> bool:
        """Tell whether a variable of the environment decides; then say so."""
        variable = self.draft.variable(section, key)
        if variable:
            what = f": {getattr(getattr(self.draft.settings, section), key)}" if key else ""
            self._talk.tell(f"The variable {variable} says it{what}. Change it there.")
        return bool(variable)

    # -- 1: the folder -------------------------------------------------------------------------------------------------

    def _ask_folder(self) -> None:
        self._begin("1. Where do the images go?")
        if self._file is None:
            self._list(disks())
            folder = self._ask_home(first.default_home())
            self.draft = SettingsDraft(folder / SYSTEM_FILE.name)
            self._put_home(folder)
            return
        self.draft = SettingsDraft(self._file)
        if self._file == SYSTEM_FILE and not self.draft.settings.home_source and first.is_service():
            self._put_home(first.SERVICE_HOME)
        settings = self.draft.settings
        if first.has_images(settings):
            self._put_home(settings.home)
            self._talk.tell(
                f"They are in {settings.archive_path}, and stay there. docs/operations.md says how to move them."
            )
            return
        self._list(disks())
        if settings.home_source:
            self._ask_archive()
        else:
            self._put_home(self._ask_home(first.default_home()))

    def _ask_home(self, default: Path) -> Path:
        return self._talk.ask("Folder", partial(first.folder_for_images, has_index=True), str(default))

    def _put_home(self, folder: Path) -> None:
        if self.draft.settings.home != folder or not self.draft.settings.home_source:
            self.draft.put("node", home="." if self.draft.path.parent == folder else str(folder))

    def _ask_archive(self) -> None:
        if self._is_fixed("archive", "url"):
            return

        def accept(answer: str) -> None:
            folder = first.folder_for_images(answer, has_index=False)
            if folder != self.draft.settings.archive_path:
                self.draft.put("archive", url=str(folder))

        self._talk.ask("Folder", accept, str(self.draft.settings.archive_path))

    # -- 2: AE title and port ------------------------------------------------------------------------------------------

    def _ask_node(self) -> None:
        self._begin("2. How do consoles call this node?")
        draft, node = self.draft, self.draft.settings.node
        if not self._is_fixed("node", "ae_title"):
            self._talk.ask("AE title", lambda answer: draft.put("node", ae_title=answer), node.ae_title)
        if node.plain and not self._is_fixed("node", "port"):
            state = first.running(draft.before)
            take = partial(first.port_of, settings=draft.settings, state=state)
            self._talk.ask("Port", lambda answer: draft.put("node", port=take(answer)), str(node.port))

    # -- 3: the console ------------------------------------------------------------------------------------------------

    def _ask_console(self) -> None:
        self._begin("3. Which console sends the images?")
        if self._is_fixed("remote"):
            return
        for remote in self.draft.settings.remote:
            self._talk.tell(f"There is {remote.name}: {remote.ae_title} at {remote.host}, port {remote.port}", "   ")
        self._talk.tell("Its own AE title, as its DICOM settings say. Enter: none now.")
        can_wait = not first.running(self.draft.before).running
        if can_wait:
            self._talk.tell(f"Or type {_WAIT}, and press the console's Echo button: that shows who calls.")
        ae_title, host = self._talk.ask("Its AE title", str), ""
        if can_wait and ae_title == _WAIT:
            ae_title, host = self._caller()
        while ae_title and not self._is_added(ae_title, host):
            ae_title = self._talk.ask("Its AE title", str)

    def _caller(self) -> tuple[str, str]:
        """Return AE title and address of a console that calls; empty when somebody presses Enter."""
        ae_title, host, port = first.where_to_send(self.draft.settings)
        with calling_consoles(self.draft.settings) as next_caller:
            self._talk.tell("At the console enter:")
            tell_place(self._talk, ae_title, host, port)
            self._talk.tell("Then press its Echo (Verify) button. Enter here: go on without.")
            while not self._talk.pressed_enter():
                found = next_caller(_POLL_S)
                if found is not None and self._is_well(found):
                    return found.ae_title, found.address
        return "", ""

    def _is_well(self, found: CallingConsole) -> bool:
        if found.trouble:
            self._talk.tell(f"{found.ae_title or 'A caller'} at {found.address}: {found.trouble}", "! ")
        else:
            self._talk.tell(f"{found.ae_title} calls from {found.address}.")
        return not found.trouble

    def _is_added(self, ae_title: str, host: str) -> bool:
        """Ask where it is, and try it; False when the settings do not accept it, for a reason that is told."""
        host = self._talk.ask("Its address", _some_text, host)
        port = self._talk.ask("Its port", first.port_number, "104")
        name = self.draft.free_name(SettingsKind.REMOTE, "console")
        try:
            self.draft.add(SettingsKind.REMOTE, name=name, ae_title=ae_title, host=host, port=port)
        except InvalidSettings as error:
            self._talk.tell(str(error), "! ")
            return False
        try:
            echo(self.draft.settings, ae_title, host, port)
            self._talk.tell(f"{ae_title} at {host}, port {port} answers.")
        except BackupSCPError as error:
            self._talk.tell(f"{error}. It can send nevertheless; images come back to it only when it answers.", "! ")
        return True

    # -- 4: a second place ---------------------------------------------------------------------------------------------

    def _ask_second_place(self) -> None:
        self._begin("4. Where is a second place for every image?")
        if self._is_fixed("copy"):
            return
        for copy in self.draft.settings.copy:
            self._talk.tell(f"There is {copy.name}", "   ")
        self._list(first.drives(self.draft.settings))
        self._talk.tell(
            "A folder on a drive that is not this computer's own. Enter: none now. docs/copies.md: cloud storage."
        )

        def accept(answer: str) -> None:
            if answer:
                url = first.folder_for_copy(answer, self.draft.settings).as_uri()
                name = self.draft.free_name(SettingsKind.COPY, "drive")
                self.draft.add(SettingsKind.COPY, name=name, url=url)

        self._talk.ask("Folder", accept)

    # -- 5: whom to tell -----------------------------------------------------------------------------------------------

    def _ask_whom_to_tell(self) -> None:
        self._begin("5. Who is told when something is wrong?")
        said = self.draft.settings.alerts
        for one in (*said.email, *(["a webhook"] if said.webhook else [])):
            self._talk.tell(f"There is {one}", "   ")
        self._talk.tell(
            "An e-mail address, or the https:// address of a webhook (ntfy, Teams, Slack). Enter: nobody else."
        )
        if self._talk.ask("Address", self._is_named) and self._talk.is_agreed("Send a test message now?"):
            self._send_test()

    def _is_named(self, answer: str) -> bool:
        """Set whom to tell; False for nobody."""
        said = self.draft.settings.alerts
        if "://" in answer:
            self.draft.put("alerts", webhook=answer, webhook_form=first.webhook_form(answer))
        elif answer:
            if "@" not in answer:
                raise InvalidSettings(f"{answer} is neither an e-mail address nor the address of a webhook")
            smtp = said.smtp or self._talk.ask("Mail server that takes it, HOST:PORT", _some_text)
            self.draft.put("alerts", email=(*(one for one in said.email if one != answer), answer), smtp=smtp)
        return bool(answer)

    def _send_test(self) -> None:
        settings = self.draft.settings
        try:
            for channel in alert_channels(settings):
                channel.send(sample_alert(settings))
                self._talk.tell(f"{channel.name}: sent.")
        except (AlertNotSent, InvalidSettings) as error:
            self._talk.tell(
                f"{error}. [alerts] has login, certificate and more (docs/alerts.md). Then try  backup-scp alerts test",
                "! ",
            )


def tell_place(talk: Conversation, ae_title: str, host: str, port: str) -> None:
    """Tell what to enter at a console, one thing a line."""
    talk.tell(ae_title, "     AE title  ")
    talk.tell(host, "     host      ")
    talk.tell(port, "     port      ")


def _some_text(answer: str) -> str:
    if not answer:
        raise InvalidSettings("Write something, or press Ctrl-C to leave without a change")
    return answer
