"""backup-scp users: who may log in at the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from backup_scp.cli.options import ConfigOption, JSONOption, PlainCommand, settings_of
from backup_scp.cli.output import moment, print_json, say
from backup_scp.cli.table import print_table
from backup_scp.ports import Role

if TYPE_CHECKING:
    from backup_scp.node.settings import Settings
    from backup_scp.ports import Accounts, User
    from backup_scp.services.user_changes import Actor, UserChanges

app = typer.Typer(no_args_is_help=True, help="Users, who log in at the page.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The user's name; upper and lower case are the same.")
]
RoleOption = Annotated[
    Role, typer.Option("--role", help="What the user may do; each role may do what those before it may.")
]
SitesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--site", metavar="SITE", help="The role is for this site only (site of [[remote]]); repeat it for more."
    ),
]
PasswordOption = Annotated[
    bool, typer.Option("--ask-password", help="Ask for the password here, instead of making a link to choose one.")
]


@dataclass(frozen=True, slots=True)
class ListedUser:
    """A user.

    Attributes
    ----------
    name
        The name at login.
    roles
        The role at each site; ``*`` is all sites.
    state
        ``active``, ``disabled``, or ``no password yet``.
    has_codes
        Whether each login with the password needs a code of an app.
    has_passkeys
        Whether it has passkeys.
    added_at
        When it was added.
    is_linked
        Whether it logs in at a provider.
    """

    name: str
    roles: dict[str, str]
    state: str
    has_codes: bool
    has_passkeys: bool
    added_at: datetime
    is_linked: bool = False


@dataclass(frozen=True, slots=True)
class ChangedUser:
    """What became of a user.

    Attributes
    ----------
    user
        The name.
    done
        What was done.
    link
        Where the user chooses a password, or is linked, once, within three days; empty without one.
    """

    user: str
    done: str
    link: str = ""


@contextmanager
def _users(settings: Settings) -> Iterator[tuple[Accounts, UserChanges, Actor]]:
    from backup_scp.node.audit_setup import audited_accounts
    from backup_scp.node.opening import require_owner
    from backup_scp.services.user_changes import UserChanges

    require_owner(settings)
    with audited_accounts(settings) as accounts:
        yield accounts, UserChanges(accounts), command_line()


def command_line() -> Actor:
    """Return who types a command, for the audit."""
    from backup_scp.machine.ownership import our_uid, user_name
    from backup_scp.services.user_changes import Actor

    uid = our_uid()
    return Actor(f"command line ({user_name(uid)})" if uid is not None else "command line")


def _tell(changed: ChangedUser, *, json: bool, what: str = "choose a password") -> None:
    if json:
        print_json(changed)
        return
    say(f"{changed.user}: {changed.done}")
    if changed.link:
        say(f"Give this link to {changed.user} alone. It works once, within three days, to {what}:")
        say(changed.link)


@app.command("list", cls=PlainCommand)
def list_users(context: typer.Context, json: JSONOption = False, config: ConfigOption = None) -> None:
    """List the users and their roles."""
    with _users(settings_of(context, config)) as (accounts, _, _):
        found = [_listed(user) for user in accounts.users()]
    if json:
        print_json(found)
    elif not found:
        say("There are no users yet: backup-scp users add NAME --role administer  adds the first one")
    else:
        rows = [
            (
                user.name,
                _in_words(user.roles),
                user.state,
                _login_of(user),
                moment(user.added_at),
            )
            for user in found
        ]
        print_table(["NAME", "ROLES", "STATE", "LOGIN", "ADDED"], rows)


@app.command("add", cls=PlainCommand)
def add(
    context: typer.Context,
    *,
    name: NameArgument,
    role: RoleOption = Role.SEE,
    site: SitesOption = None,
    ask_password: PasswordOption = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Add a user, and print a link at which the user chooses a password.

    A role without --site is for all sites. docs/users.md lists what each role may do.
    """
    settings = settings_of(context, config)
    from backup_scp.node.accounts_setup import link_address
    from backup_scp.services.user_changes import roles_of

    with _users(settings) as (_, changes, by):
        password = _asked(name) if ask_password else ""
        user = changes.add(name, roles_of(role, site or []), by)
        if password:
            changes.set_password(user, password, by)
            link = ""
        else:
            link = link_address(settings, changes.new_link(user))
    _tell(ChangedUser(user.name, f"added, may {_in_words(dict(user.roles))}", link), json=json)


@app.command("role", cls=PlainCommand)
def set_role(
    context: typer.Context,
    name: NameArgument,
    role: RoleOption,
    site: SitesOption = None,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Give a user another role at some sites, or without --site at all sites; it replaces the roles before."""
    with _users(settings_of(context, config)) as (_, changes, by):
        from backup_scp.services.user_changes import roles_of

        user, roles = changes.found(name), roles_of(role, site or [])
        changes.set_roles(user, roles, by)
    _tell(ChangedUser(user.name, f"may {_in_words(dict(roles))}"), json=json)


@app.command("reset", cls=PlainCommand)
def reset(
    context: typer.Context,
    name: NameArgument,
    ask_password: PasswordOption = False,
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Take a user's password, codes and passkeys away, end all sessions, and print a link for a new password."""
    settings = settings_of(context, config)
    from backup_scp.node.accounts_setup import link_address

    with _users(settings) as (_, changes, by):
        user = changes.found(name)
        password = _asked(user.name) if ask_password else ""
        link = link_address(settings, changes.reset(user, by))
        if password:
            changes.set_password(user, password, by)
            link = ""
    _tell(ChangedUser(user.name, "reset, all sessions have ended", link), json=json)


@app.command("link", cls=PlainCommand)
def link(context: typer.Context, name: NameArgument, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Print a link by which a user logs in at the provider of [web.openid_connect] from then on."""
    settings = settings_of(context, config)
    from backup_scp.node.accounts_setup import link_address
    from backup_scp.node.openid_setup import LINK, require_provider
    from backup_scp.ports import LinkKind

    require_provider(settings)
    with _users(settings) as (_, changes, _by):
        user = changes.found(name)
        address = link_address(settings, changes.new_link(user, LinkKind.IDENTITY), path=LINK)
    _tell(ChangedUser(user.name, "may be linked", address), json=json, what="log in at the provider")


@app.command("unlink", cls=PlainCommand)
def unlink(context: typer.Context, name: NameArgument, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Let a user no longer log in at the provider, and end all its sessions at once."""
    with _users(settings_of(context, config)) as (_, changes, by):
        user = changes.found(name)
        changes.unlink(user, by)
    _tell(ChangedUser(user.name, "no longer linked, all sessions have ended"), json=json)


@app.command("disable", cls=PlainCommand)
def disable(context: typer.Context, name: NameArgument, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Let a user not log in any more, and end all its sessions at once."""
    _set_disabled(context, config, name, is_disabled=True, json=json)


@app.command("enable", cls=PlainCommand)
def enable(context: typer.Context, name: NameArgument, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Let a disabled user log in again."""
    _set_disabled(context, config, name, is_disabled=False, json=json)


def _set_disabled(context: typer.Context, config: ConfigOption, name: str, *, is_disabled: bool, json: bool) -> None:
    with _users(settings_of(context, config)) as (_, changes, by):
        user = changes.found(name)
        changes.set_disabled(user, by, is_disabled=is_disabled)
    done = "disabled, all sessions have ended" if is_disabled else "enabled"
    _tell(ChangedUser(user.name, done), json=json)


@app.command("remove", cls=PlainCommand)
def remove(context: typer.Context, name: NameArgument, json: JSONOption = False, config: ConfigOption = None) -> None:
    """Remove a user; the log of users keeps the name."""
    with _users(settings_of(context, config)) as (_, changes, by):
        user = changes.found(name)
        changes.remove(user, by)
    _tell(ChangedUser(user.name, "removed"), json=json)


@app.command("log", cls=PlainCommand)
def show_log(
    context: typer.Context,
    most: Annotated[
        int, typer.Option("--last", min=1, metavar="NUMBER", help="How many lines, the newest first.")
    ] = 50,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Only lines about this user.")] = "",
    json: JSONOption = False,
    config: ConfigOption = None,
) -> None:
    """Show who logged in, who failed to, and who changed users."""
    with _users(settings_of(context, config)) as (accounts, _, _):
        events = accounts.events(most, who=user)
    if json:
        print_json(events)
    else:
        rows = [(moment(event.at), event.kind, event.who, event.about, event.address) for event in events]
        print_table(["WHEN", "WHAT", "WHO", "ABOUT", "FROM"], rows)


def _asked(name: str) -> str:
    """Ask for a password at the terminal, twice."""
    from backup_scp.services.passwords import require_good

    password: str = typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
    require_good(password, name)
    return password


def _listed(user: User) -> ListedUser:
    state = "disabled" if user.is_disabled else "active" if user.may_log_in else "no password yet"
    roles = {site: str(role) for site, role in user.roles.items()}
    return ListedUser(
        user.name, roles, state, user.has_codes, user.has_passkeys, user.added_at, is_linked=user.is_linked
    )


def _login_of(user: ListedUser) -> str:
    kinds = [word for word, has in (("code", user.has_codes), ("passkey", user.has_passkeys)) if has]
    second = f"with a {' or a '.join(kinds)}" if kinds else ""
    return ", ".join(filter(None, ["at the provider" * user.is_linked, second]))


def _in_words(roles: dict[str, str]) -> str:
    return ", ".join(f"{role} at {'all sites' if site == '*' else site}" for site, role in sorted(roles.items()))
