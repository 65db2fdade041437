"""The client's secret key, and the seeds derived from it.

All that is random in a request (reference, weight) comes from the key and the scan's content, so the same scan sent
again by the same installation is the same bytes and teaches the server nothing new.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from mixpriv.atomic import config_folder, private_folder, write_file
from mixpriv.errors import InputError, MixprivError, OutputError

KEY_BYTES = 32


class ClientKey:
    """A secret that is never printed, logged or pickled; `save` is the only way out.

    Examples
    --------
    >>> key = ClientKey(bytes(32))
    >>> key
    ClientKey(secret)
    >>> key.derive("weight") == key.derive("reference")
    False
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise InputError(f"client key: expected {KEY_BYTES} bytes, got {len(secret)}")
        self._secret = secret

    def __repr__(self) -> str:
        return "ClientKey(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ClientKey cannot be pickled")

    def derive(self, purpose: str, content: bytes = b"", index: int = 0) -> bytes:
        """32 bytes: HMAC-SHA256 of purpose, content digest and index; the parts cannot run into each other."""
        name = purpose.encode()
        message = len(name).to_bytes(8, "little") + name + index.to_bytes(8, "little") + content
        return hmac.digest(self._secret, message, "sha256")

    def save(self, path: Path) -> None:
        """Write a copy of the key to a new file of mode 0600, only because the user asked for it."""
        try:
            write_file(path, self._secret, mode=0o600, replace=False)
        except FileExistsError:
            raise InputError(f"{path}: exists, a key file is never overwritten") from None


def key_path() -> Path:
    """Where this user's key is kept."""
    return config_folder() / "client.key"


def load_or_create_key(path: Path | None = None) -> ClientKey:
    """Read the client key; the first call of all creates it.

    Raises
    ------
    InputError
        the file is not a key (kind or size), or others may read it.
    OutputError
        it can be neither read nor created.
    """
    path = path or key_path()
    if not os.path.lexists(path):
        private_folder(path.parent)
        with contextlib.suppress(FileExistsError):  # another process was first: its key counts
            write_file(path, secrets.token_bytes(KEY_BYTES), mode=0o600, replace=False)
    return _read(path)


def _read(path: Path) -> ClientKey:
    """The key in a file, judged as it was opened: it is neither waited for nor exchanged meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise InputError(f"{path}: expected a key file, got something else")
            permissions = stat.S_IMODE(found.st_mode) & 0o777
            if os.name == "posix" and permissions & 0o077:
                raise InputError(f"{path}: expected mode 0600, got {permissions:04o}; others may know this key")
            if found.st_size != KEY_BYTES:
                raise InputError(f"{path}: expected {KEY_BYTES} bytes of key, got {found.st_size}")
            return ClientKey(stream.read(KEY_BYTES + 1))
    except MixprivError:
        raise
    except IsADirectoryError:
        raise InputError(f"{path}: expected a key file, got something else") from None
    except OSError as error:
        raise OutputError(f"{path}: key cannot be read ({error.strerror})") from None


def content_digest(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> bytes:
    """SHA-256 over decoded voxels, shape and affine: the scan's content, whatever file it came in.

    Parameters
    ----------
    voxels : (I, J, K) float32; Fortran order (the order of the file) is hashed without a copy.
    affine : (4, 4)

    Examples
    --------
    >>> voxels = np.zeros((2, 2, 2), np.float32)
    >>> content_digest(voxels, np.eye(4)).hex()[:8]
    '50986d52'
    >>> content_digest(voxels, 2 * np.eye(4)) == content_digest(voxels, np.eye(4))
    False
    """
    digest = hashlib.sha256(np.asarray((*voxels.shape, voxels.ndim), dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(affine, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(voxels.T, dtype="<f4").data)
    return digest.digest()
