"""An authority and certificates made for a test, by the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Party:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Certifies servers and clients, for as long and from when a test wants."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        files = ("-keyout", self._key, "-out", self.certificate)
        _openssl("req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}", *files)

    def server(self, name: str = "localhost", ip: str = "", **dates: str) -> Party:
        """A certificate for a server of this name; ``not_before``, ``not_after`` as YYYYMMDDHHMMSSZ."""
        names = f"DNS:{name}" + (f",IP:{ip}" if ip else "")
        return self._certify(f"server-{name}", f"subjectAltName={names}\nextendedKeyUsage=serverAuth", dates)

    def client(self, name: str = "client", **dates: str) -> Party:
        """A client's certificate."""
        return self._certify(name, f"subjectAltName=DNS:{name}\nextendedKeyUsage=clientAuth", dates)

    def _certify(self, name: str, extensions: str, dates: dict[str, str]) -> Party:
        party = Party(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request, settings = self.folder / f"{name}.csr", self.folder / f"{name}.cnf"
        settings.write_text(extensions)
        _openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", party.key, "-out", request)
        if not dates:
            how = ("x509", "-req", "-CA", self.certificate, "-CAkey", self._key, "-extfile", settings)
            _openssl(*how, "-in", request, "-out", party.certificate, "-days", "2")
            return party
        database = self.folder / "index.txt"
        database.write_text("")
        (self.folder / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=a\n[a]\ndatabase={database}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n"
            f"new_certs_dir={self.folder}\nunique_subject=no\n[p]\ncommonName=supplied\n"
        )
        how = ("ca", "-batch", "-config", self.folder / "ca.cnf", "-cert", self.certificate, "-keyfile", self._key)
        when = ("-startdate", dates["not_before"], "-enddate", dates["not_after"])
        _openssl(*how, *when, "-extfile", settings, "-in", request, "-out", party.certificate, "-notext")
        return party


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
