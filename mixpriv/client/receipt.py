"""Receipts: what left this machine for one scan, to whom and how, signed with the client's key.

Nothing of the scan is in one: neither its name nor a voxel, a volume or a size of it. Digests of the requests let
whoever kept these (``--save-wire``) show that they are what was sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mixpriv import __version__
from mixpriv.client.pipeline import Pipeline
from mixpriv.client.segmentation import Attempt, Exchange
from mixpriv.errors import InputError, printable
from mixpriv.key import ClientKey
from mixpriv.wire.delivery import Delivery, now

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NO_CERTIFICATE = "no certificate"
WRITTEN, NOT_WRITTEN = "written", "not written"
MOST_BYTES = 2**20
"""Of a receipt: many times what 20 requests take, each repeated often."""

_DOMAIN = b"mixpriv receipt 1\n"
"""What is signed begins so: nothing else that the key may ever sign can be taken for a receipt."""


def public_key(key: ClientKey) -> str:
    """The key by which receipts are checked, 64 hexadecimal digits.

    Examples
    --------
    >>> public_key(ClientKey(bytes(32)))[:8]
    'af1b56a8'
    """
    return _signing_key(key).public_key().public_bytes_raw().hex()


def make_receipt(attempts: Iterable[Attempt], pipeline: Pipeline, *, segmentation: str) -> bytes:
    """Write down and sign what was sent.

    Parameters
    ----------
    attempts : all requests of the scan that were tried; what did not leave this program is left out
    segmentation : `WRITTEN` or `NOT_WRITTEN`
    """
    tried = [one for one in attempts if one.deliveries]
    bundle = pipeline.bundle
    receipt = {
        "software": f"mixpriv {__version__}",
        "time": now(),
        "bundle": {"name": bundle.name, "version": bundle.version, "fingerprint": bundle.fingerprint},
        "mode": pipeline.mode.name,
        "re_identification_check": _check(tried),
        "may_have_left_this_machine": pipeline.leaves_machine,
        "segmentation": segmentation,
        "requests": [_request(one, pipeline) for one in tried],
    }
    signing = _signing_key(pipeline.key)
    return _encode({
        "receipt": receipt,
        "public_key": signing.public_key().public_bytes_raw().hex(),
        "signature": signing.sign(_DOMAIN + _encode(receipt)).hex(),
    })  # fmt: skip


def read_receipt(content: bytes, public: str, name: str) -> dict[str, Any]:
    """What a receipt says, once its signature is found to be by a key.

    Parameters
    ----------
    public : the key, as `public_key` tells it
    name : what messages call the receipt

    Raises
    ------
    InputError
        it is no receipt, by another key, or not as it was signed, to the last byte.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        document: Any = json.loads(content) if len(content) <= MOST_BYTES else None
        receipt, signer, signature = (document[part] for part in ("receipt", "public_key", "signature"))
        requests = [*receipt["requests"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{name}: not a receipt of mixpriv") from None
    try:
        verifier = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    except ValueError:
        raise InputError(f"public key: expected 64 hexadecimal digits, got {printable(public, 80)!r}") from None
    public = verifier.public_bytes_raw().hex()  # however it was typed
    if signer != public:
        raise InputError(f"{name}: expected the signature of key {public}, got that of {printable(str(signer), 80)}")
    try:
        verifier.verify(bytes.fromhex(signature), _DOMAIN + _encode(receipt))
    except (InvalidSignature, ValueError, TypeError):
        raise InputError(f"{name}: the signature does not fit: changed after it was signed") from None
    if content != _encode(document) or len(document) != 3 or not requests:
        raise InputError(f"{name}: changed after it was signed")  # something was added around what is signed
    return dict(receipt)


def require_same(receipt: dict[str, Any], exchanges: Sequence[Exchange], name: str) -> None:
    """Refuse, by an `InputError` that says which, requests and answers other than those of a receipt."""
    answered = [one for one in receipt["requests"] if one["answer_sha256"] is not None]
    if len(answered) != len(exchanges):
        raise InputError(f"{name}: expected the {len(answered)} answered requests of the receipt, got {len(exchanges)}")
    for number, (one, exchange) in enumerate(zip(answered, exchanges, strict=True), start=1):
        for what, part, array in (("sent", "sha256", exchange.sent), ("received", "answer_sha256", exchange.received)):
            if one[part] != _digest(array):
                raise InputError(f"{name}: what was {what} in request {number} is not what the receipt says")


def _request(attempt: Attempt, pipeline: Pipeline) -> dict[str, Any]:
    return {
        "sha256": _digest(attempt.image),
        "bytes": attempt.image.nbytes,
        "answer_sha256": None if attempt.answer is None else _digest(attempt.answer),
        "sent": [_delivery(one, pipeline) for one in attempt.deliveries],
    }


def _delivery(one: Delivery, pipeline: Pipeline) -> dict[str, Any]:
    return {
        "server": one.server if pipeline.leaves_machine else pipeline.server,
        "certificate": NO_CERTIFICATE if one.certificate is None else f"sha256:{one.certificate}",
        "time": one.time,
        "answered": one.answered,
    }


def _check(tried: Sequence[Attempt]) -> str:
    if not all(one.checked for one in tried):
        return "not made"
    return "not passed" if any(one.refusal for one in tried) else "passed"


def _digest(array: Any) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _encode(document: Any) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


def _signing_key(key: ClientKey) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(key.derive("receipt/ed25519"))
