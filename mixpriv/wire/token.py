"""The second control beside TLS: a word that Triton asks for before it answers (its "restricted protocols")."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from mixpriv.errors import InputError
from mixpriv.wire.private import check_private

TOKEN_VARIABLE = "MIXPRIV_TOKEN"  # noqa: S105 - the variable's name
TOKEN_KEY = "token"  # noqa: S105 - as in --grpc-restricted-protocol=inference,model-config:token=...
_FILE_LIMIT = 4096
_FORM = re.compile(r"[A-Za-z0-9._~+/-]{16,256}")


@dataclass(frozen=True)
class Token:
    """A shared secret; its text is not part of its repr.

    Raises
    ------
    InputError
        the text has another form; it is not shown.

    Examples
    --------
    >>> Token("a-secret-0123456789")
    Token()
    """

    text: str = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not _FORM.fullmatch(self.text):
            raise InputError("token: expected 16 to 256 letters, digits or any of ._~+/-")

    @classmethod
    def load(cls, path: Path | None) -> Token | None:
        """Read the token from a file, or from the environment's MIXPRIV_TOKEN; None if neither is there.

        Raises
        ------
        InputError
            the file is unreadable, others may read it, or what it holds is no token; never shown.
        """
        where = TOKEN_VARIABLE if path is None else str(path)
        text = os.environ.get(TOKEN_VARIABLE, "") if path is None else _read(path)
        if path is None and not text:
            return None
        try:
            return cls(text)
        except InputError as error:
            raise InputError(str(error).replace("token", f"token in {where}", 1)) from None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The header that every call carries."""
        return ((f"triton-grpc-protocol-{TOKEN_KEY}", self.text),)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            check_private(os.fstat(stream.fileno()), "token", path)
            return stream.read(_FILE_LIMIT).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise InputError(f"token: {path}: {error.strerror}") from None
