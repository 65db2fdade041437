"""``mixpriv-client verify``: whether a receipt is what was signed, and the wire record what it tells of."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mixpriv.cli.options import a_path
from mixpriv.cli.terminal import say, say_json

_VERIFY = (
    "Check the signature of a receipt of 'segment --receipt', and, given the folder of --save-wire, that the requests "
    "and answers there are those of the receipt."
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser of ``mixpriv-client``."""
    parser = commands.add_parser("verify", help="check a receipt of what was sent", description=_VERIFY)
    parser.set_defaults(run=run)
    parser.add_argument("receipt", type=a_path, metavar="RECEIPT", help="a file of 'segment --receipt'")
    parser.add_argument("wire", type=a_path, nargs="?", metavar="WIRE", help="the scan's folder of --save-wire")
    parser.add_argument("--key", metavar="HEX", help="its owner's, by 'key public' (default: this installation's own)")
    parser.add_argument("--json", action="store_true", help="what it says, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Tell what a receipt says, if it is what was signed."""
    from mixpriv.client.receipt import read_receipt, require_same
    from mixpriv.client.wire_record import read_wire

    receipt = read_receipt(_content(arguments.receipt), arguments.key or _own_key(), str(arguments.receipt))
    if arguments.wire is not None:
        require_same(receipt, read_wire(arguments.wire), str(arguments.wire))
    if arguments.json:
        say_json(receipt)
        return 0
    for line in _told(receipt):
        say(line)
    say(f"{arguments.receipt}: the signature is right")
    if arguments.wire is not None:
        say(f"{arguments.wire}: the requests and answers are those of the receipt")
    return 0


def _content(path: Path) -> bytes:
    from mixpriv.client.receipt import MOST_BYTES
    from mixpriv.errors import InputError

    try:
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _own_key() -> str:
    """The public key of this installation; none is made for it."""
    from mixpriv.client.receipt import public_key
    from mixpriv.errors import InputError
    from mixpriv.key import key_path, load_or_create_key

    if not key_path().exists():
        raise InputError("verify: this installation has no key yet: give its owner's by --key")
    return public_key(load_or_create_key())


def _told(receipt: dict[str, Any]) -> list[str]:
    bundle = receipt["bundle"]
    left = "may have left this machine" if receipt["may_have_left_this_machine"] else "nothing left this machine"
    lines = [
        f"{receipt['software']}, {receipt['time']}: {left}; segmentation {receipt['segmentation']}",
        f"network {bundle['name']} {bundle['version']}, fingerprint {bundle['fingerprint']}",
        f"mode {receipt['mode']}, re-identification check {receipt['re_identification_check']}",
    ]
    for number, one in enumerate(receipt["requests"], start=1):
        for sent in one["sent"]:
            answer = "answered" if sent["answered"] else "no usable answer, it may have arrived"
            lines.append(
                f"request {number}: {one['bytes']} bytes at {sent['time']} to {sent['server']} "
                f"({sent['certificate']}), {answer}"
            )
    return lines
