"""``mixpriv-server certificates``: an authority of one's own, for servers and the sites that they serve."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mixpriv.cli.options import a_path
from mixpriv.cli.terminal import say, say_json
from mixpriv.errors import InputError
from mixpriv.server.events import EventLog

if TYPE_CHECKING:
    from mixpriv.server.certificates import Issued

_KINDS = ("server", "site")


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv-server``."""
    parser = commands.add_parser(
        "certificates",
        help="certify servers and sites",
        description="An authority in a folder: it certifies servers and sites, and revokes. Keep the folder away from "
        "the server, which needs authority.pem, revoked.crl and its own certificate and key only.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    init = _action(actions, "init", _init, "make a new authority")
    init.add_argument("--name", default="mixpriv", help="the authority's name (%(default)s)")
    issue = _named(_action(actions, "issue", _issue, "issue a certificate and its key"))
    issue.add_argument(
        "--for", dest="names", action="append", default=[], metavar="NAME", help="DNS name or address of a server"
    )
    issue.add_argument("--days", type=_days, help="how long it is valid (server 365, site 90)")
    renew = _named(_action(actions, "renew", _renew, "issue it again with a new key; the old one stays valid"))
    renew.add_argument("--days", type=_days, help="how long it is valid (server 365, site 90)")
    revoke = _named(_action(actions, "revoke", _revoke, "put all certificates of a name on the revocation list"))
    revoke.add_argument("--serial", type=_serial, help="this one only, as list shows it")
    listed = _action(actions, "list", _list, "show all certificates")
    listed.add_argument("--json", action="store_true", help="for machines")


def _action(actions: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
    action.add_argument("folder", type=a_path, metavar="DIR", help="the authority's folder")
    action.add_argument("--log", choices=("text", "json"), default="text", help="lines for people or JSON lines")
    action.set_defaults(run=run)
    return action


def _named(action: argparse.ArgumentParser) -> argparse.ArgumentParser:
    action.add_argument("kind", choices=_KINDS)
    action.add_argument("name", help="lower-case letters, digits and hyphens, such as hospital-a")
    return action


def _init(args: argparse.Namespace, log: EventLog) -> int:
    from mixpriv.server.certificates import Authority

    authority = Authority.init(args.folder, args.name)
    log.tell(
        "made", f"made the authority {args.folder}, valid until {authority.certificate.not_valid_after_utc:%Y-%m-%d}"
    )
    return 0


def _issue(args: argparse.Namespace, log: EventLog) -> int:
    from mixpriv.server.certificates import Authority, site_name

    if args.kind == "site" and args.names:
        raise InputError("--for: a site has no addresses, only a server has")
    path = Authority(args.folder).issue(args.kind, site_name(args.name), args.names, args.days)
    log.tell("issued", f"issued {path} and {path.with_suffix('.key').name}", path=str(path))
    return 0


def _renew(args: argparse.Namespace, log: EventLog) -> int:
    from mixpriv.server.certificates import Authority

    path = Authority(args.folder).renew(args.kind, args.name, args.days)
    log.tell("renewed", f"issued {path} and {path.with_suffix('.key').name} anew", path=str(path))
    return 0


def _revoke(args: argparse.Namespace, log: EventLog) -> int:
    from mixpriv.server.certificates import Authority

    for one in Authority(args.folder).revoke(args.kind, args.name, serial=args.serial):
        log.tell("revoked", f"revoked {one.kind} {one.name}, serial {one.serial:x}", serial=f"{one.serial:x}")
    return 0


def _list(args: argparse.Namespace, log: EventLog) -> int:
    from mixpriv.server.certificates import Authority

    found = Authority(args.folder).issued()
    if args.json:
        say_json([_facts(one) for one in found])
    else:
        for one in found:
            facts = _facts(one)
            say(
                "  ".join(str(facts[key]) for key in ("state", "kind", "name", "ends", "serial"))
                + f"  {' '.join(one.names)}"
            )
    return 0


def _facts(one: Issued) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "name": one.name,
        "state": one.state,
        "serial": f"{one.serial:x}",
        "names": list(one.names),
        "begins": f"{one.begins:%Y-%m-%dT%H:%M:%SZ}",
        "ends": f"{one.ends:%Y-%m-%dT%H:%M:%SZ}",
        "revoked": one.revoked and f"{one.revoked:%Y-%m-%dT%H:%M:%SZ}",
    }


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 3650:
        raise argparse.ArgumentTypeError(f"expected 1 to 3650, got {text!r}")
    return int(text)


def _serial(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a serial number, got {text!r}") from None
