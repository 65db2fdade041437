"""An authority of one's own: certificates for servers and for sites, and the list of those that are revoked.

A folder holds it: ``authority.pem`` and ``.key``, ``revoked.crl``, ``issued/SERIAL.pem`` of every certificate, and what
is handed out in ``servers/`` and ``sites/``. A site is known by the URI in its certificate, ``mixpriv://site/NAME``.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mixpriv.atomic import make_folder, private_folder, write_files
from mixpriv.errors import InputError

SITE_URI = "mixpriv://site/"
AUTHORITY_DAYS = 3650
DEFAULT_DAYS = {"server": 365, "site": 90}

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_FOLDERS = {"server": "servers", "site": "sites"}
_BACKDATED = timedelta(minutes=5)
"""Clocks of other machines may be a little behind."""


@dataclass(frozen=True)
class Issued:
    """A certificate that the authority has issued.

    Attributes
    ----------
    kind : "server" or "site"
    names : what it is for: DNS names and addresses of a server, the URI of a site
    revoked : when, or None
    """

    kind: str
    name: str
    serial: int
    names: tuple[str, ...]
    begins: datetime
    ends: datetime
    revoked: datetime | None

    @property
    def state(self) -> str:
        """One word: valid, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if datetime.now(timezone.utc) < self.ends else "expired"


class Authority:
    """The authority in a folder.

    Raises
    ------
    InputError
        there is none, or its files cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.certificate = x509.load_pem_x509_certificate((folder / "authority.pem").read_bytes())
            key = serialization.load_pem_private_key((folder / "authority.key").read_bytes(), None)
        except OSError as error:
            raise InputError(f"{error.filename}: no authority there ({error.strerror})") from None
        except (TypeError, ValueError):
            raise InputError(f"{folder}: authority.pem or authority.key is not usable PEM") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self.certificate.public_key():
            raise InputError(f"{folder}: authority.key is not the key of authority.pem")
        self._key = key

    @classmethod
    def init(cls, folder: Path, name: str) -> Authority:
        """Make a new authority; its key is for its owner alone from the start.

        Raises
        ------
        InputError
            the folder holds one already, or the name has not 1 to 64 characters.
        OutputError
            the folder cannot be written.
        """
        try:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        except ValueError:
            raise InputError(f"name: expected 1 to 64 characters, got {name[:80]!r}") from None
        make_folder(folder.parent)
        private_folder(folder)
        key = ec.generate_private_key(ec.SECP256R1())
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        certificate = (
            _builder(subject, key.public_key(), AUTHORITY_DAYS)
            .issuer_name(subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        try:
            write_files(
                {folder / "authority.key": _key_pem(key), folder / "authority.pem": _pem(certificate)},
                mode=0o600,
                replace=False,
            )
        except FileExistsError as error:
            raise InputError(f"{error.filename}: there is an authority already") from None
        authority = cls(folder)
        with authority._alone():
            authority._write_list([])
        return authority

    def issue(self, kind: str, name: str, names: Sequence[str] = (), days: int | None = None) -> Path:
        """Issue a certificate with a new key; returns its file, ``NAME.pem``, beside ``NAME.key``.

        Parameters
        ----------
        kind : "server" or "site"
        name : lower-case letters, digits and hyphens
        names : DNS names and addresses of a server

        Raises
        ------
        InputError
            a name has another form, or there is such a certificate: renew it.
        """
        if kind == "server" and not names:
            raise InputError(f"server {name}: expected the DNS names or addresses that clients use (--for)")
        subjects = [_subject(one) for one in names] if kind == "server" else [_site_uri(name)]
        with self._alone():
            if any((one.kind, one.name) == (kind, name) for one in self.issued()):
                raise InputError(f"{kind} {name}: there is a certificate already; renew it, or choose another name")
            return self._issue(kind, name, subjects, days or DEFAULT_DAYS[kind])

    def renew(self, kind: str, name: str, days: int | None = None) -> Path:
        """Issue a certificate for the same names with a new key, in place of the file; the old one stays valid.

        Raises
        ------
        InputError
            there is none of this name.
        """
        with self._alone():
            last = self._find(kind, name)[-1]
            subjects = [_subject(one) for one in last.names] if kind == "server" else [_site_uri(name)]
            return self._issue(kind, name, subjects, days or DEFAULT_DAYS[kind])

    def revoke(self, kind: str, name: str, *, serial: int | None = None) -> list[Issued]:
        """Revoke all certificates of a name, or the one of a serial number; returns those newly revoked.

        Raises
        ------
        InputError
            there is none, or all are revoked.
        """
        with self._alone():
            chosen = [one for one in self._find(kind, name) if serial in (None, one.serial) and one.revoked is None]
            if not chosen:
                raise InputError(f"{kind} {name}: nothing to revoke")
            now = datetime.now(timezone.utc)
            new = [_revoked(one.serial, now) for one in chosen]
            self._write_list([*self._list(), *new])
        return chosen

    def issued(self) -> list[Issued]:
        """All certificates, by kind and name, the oldest first."""
        revoked = {one.serial_number: one.revocation_date_utc for one in self._list()}
        found = [_read(path, revoked) for path in (self.folder / "issued").glob("*.pem")]
        return sorted(found, key=lambda one: (one.kind, one.name, one.begins))

    def _find(self, kind: str, name: str) -> list[Issued]:
        found = [one for one in self.issued() if (one.kind, one.name) == (kind, name)]
        if not found:
            raise InputError(f"{kind} {name}: no such certificate in {self.folder}")
        return found

    def _issue(self, kind: str, name: str, subjects: list[x509.GeneralName], days: int) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if kind == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
        certificate = (
            _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), days)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        if certificate.not_valid_after_utc > self.certificate.not_valid_after_utc:
            raise InputError(
                f"--days {days}: the authority itself ends {self.certificate.not_valid_after_utc:%Y-%m-%d}"
            )
        handed_out, register = private_folder(self.folder / _FOLDERS[kind]), private_folder(self.folder / "issued")
        path = handed_out / f"{name}.pem"
        write_files(
            {
                register / f"{certificate.serial_number:x}.pem": _pem(certificate),
                handed_out / f"{name}.key": _key_pem(key),
                path: _pem(certificate),
            },
            mode=0o600,
        )
        return path

    def _list(self) -> list[x509.RevokedCertificate]:
        path = self.folder / "revoked.crl"
        try:
            found = x509.load_pem_x509_crl(path.read_bytes())
            valid = found.is_signature_valid(self._key.public_key())
        except (OSError, ValueError, TypeError, InvalidSignature) as error:
            raise InputError(f"{path}: not a usable revocation list ({type(error).__name__})") from None
        if not valid:
            raise InputError(f"{path}: not signed by this authority")
        return list(found)

    def _write_list(self, revoked: Sequence[x509.RevokedCertificate]) -> None:
        """It is as good as the authority for as long: one that expired would lock everybody out."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(datetime.now(timezone.utc) - _BACKDATED)
            .next_update(self.certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(len(revoked)), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for one in revoked:
            builder = builder.add_revoked_certificate(one)
        crl = builder.sign(self._key, hashes.SHA256())
        write_files({self.folder / "revoked.crl": crl.public_bytes(serialization.Encoding.PEM)}, mode=0o600)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two who revoke at once must not lose one of both."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _builder(subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _revoked(serial: int, when: datetime) -> x509.RevokedCertificate:
    return x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()


def _subject(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        if len(text) > 253 or not _DNS.fullmatch(text):
            raise InputError(f"--for: expected a DNS name or an address, got {text!r}") from None
        return x509.DNSName(text)


def _site_uri(name: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(SITE_URI + site_name(name))


def site_name(text: str) -> str:
    """A site's name, if it has the form of one.

    Raises
    ------
    InputError
        it has not.

    Examples
    --------
    >>> site_name("hospital-a")
    'hospital-a'
    """
    if not _NAME.fullmatch(text):
        raise InputError(f"name: expected up to 63 lower-case letters, digits and hyphens, got {text!r}")
    return text


def _read(path: Path, revoked: dict[int, datetime]) -> Issued:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    except (OSError, ValueError, IndexError, x509.ExtensionNotFound):
        raise InputError(f"{path}: not a certificate of this authority") from None
    sites = names.get_values_for_type(x509.UniformResourceIdentifier)
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return Issued(
        kind="site" if sites else "server",
        name=str(common),
        serial=certificate.serial_number,
        names=tuple(sites) or (*names.get_values_for_type(x509.DNSName), *addresses),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        revoked=revoked.get(certificate.serial_number),
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
