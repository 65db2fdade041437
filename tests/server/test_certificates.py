"""An authority of one's own: what openssl and our own checks say of what it writes, and what happens to broken ones."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the server extra")

from mixpriv.cli.server.main import main
from mixpriv.errors import InputError
from mixpriv.server.certificates import Authority
from mixpriv.wire.tls import check_authorities, check_identity
from tests.support.certificates import needs_openssl


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.init(tmp_path / "ca", "a test's")


def verified(authority: Authority, certificate: Path, purpose: str) -> str:
    """What openssl says of a certificate, the revocation list asked too."""
    trust = ("-CAfile", authority.folder / "authority.pem", "-CRLfile", authority.folder / "revoked.crl")
    command = ("openssl", "verify", "-crl_check", "-purpose", purpose, *trust, certificate)
    done = subprocess.run(tuple(map(str, command)), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


class TestIssue:
    @needs_openssl
    def test_is_accepted_by_others(self, authority: Authority) -> None:
        server = authority.issue("server", "node", ["seg.example.org", "10.0.0.1", "::1"])
        site = authority.issue("site", "hospital-a")
        assert verified(authority, server, "sslserver").endswith("OK\n")
        assert verified(authority, site, "sslclient").endswith("OK\n")
        assert "unsuitable certificate purpose" in verified(authority, site, "sslserver")
        check_authorities(authority.folder / "authority.pem")
        names = check_identity(server, server.with_suffix(".key"), of_server=True)
        assert names[:2] == ("seg.example.org", "10.0.0.1")
        assert check_identity(site, site.with_suffix(".key")) == ("mixpriv://site/hospital-a",)

    def test_keys_are_private_from_the_start(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            authority = Authority.init(tmp_path / "ca", "x")
            authority.issue("site", "a")
        finally:
            os.umask(before)
        for path in [authority.folder, *authority.folder.rglob("*")]:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path

    def test_is_whole_or_absent(self, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="cannot be written"):
            authority.issue("site", "a")
        assert list((authority.folder / "sites").iterdir()) == []
        assert authority.issued() == []

    @pytest.mark.parametrize("name", ["", "A", "a/b", "..", "a" * 64, "-a", "a b", "ä"])
    def test_refuses_odd_names(self, authority: Authority, name: str) -> None:
        with pytest.raises(InputError, match="name: expected up to 63 lower-case letters"):
            authority.issue("site", name)

    @pytest.mark.parametrize("name", ["", "a b", "http://x", "a/b", "x" * 64, "a..b"])
    def test_refuses_odd_addresses(self, authority: Authority, name: str) -> None:
        with pytest.raises(InputError, match="--for: expected a DNS name or an address"):
            authority.issue("server", "node", [name])

    def test_refuses_to_issue_twice_and_beyond_the_authority(self, authority: Authority) -> None:
        authority.issue("site", "a")
        with pytest.raises(InputError, match="there is a certificate already"):
            authority.issue("site", "a")
        with pytest.raises(InputError, match="the authority itself ends"):
            authority.issue("site", "b", days=4000)


class TestRevoke:
    @needs_openssl
    def test_is_refused_by_others(self, authority: Authority) -> None:
        a, b = (authority.issue("site", name) for name in "ab")
        authority.revoke("site", "a")
        assert "certificate revoked" in verified(authority, a, "sslclient")
        assert verified(authority, b, "sslclient").endswith("OK\n")

    def test_all_or_one(self, authority: Authority) -> None:
        authority.issue("site", "a")
        authority.renew("site", "a")
        old, new = authority.issued()
        authority.revoke("site", "a", serial=old.serial)
        assert [one.state for one in authority.issued()] == ["revoked", "valid"]
        assert [one.serial for one in authority.revoke("site", "a")] == [new.serial]
        with pytest.raises(InputError, match="site a: nothing to revoke"):
            authority.revoke("site", "a")
        with pytest.raises(InputError, match="site b: no such certificate"):
            authority.revoke("site", "b")

    def test_nobody_is_lost_when_two_revoke_at_once(self, authority: Authority) -> None:
        names = [f"site-{number}" for number in range(8)]
        for name in names:
            authority.issue("site", name)
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            pool.starmap(_revoke, [(authority.folder, name) for name in names])
        assert {one.state for one in authority.issued()} == {"revoked"}


def _revoke(folder: Path, name: str) -> None:
    Authority(folder).revoke("site", name)


class TestRefuses:
    def test_a_list_of_somebody_else(self, authority: Authority, tmp_path: Path) -> None:
        other = Authority.init(tmp_path / "other", "x")
        (authority.folder / "revoked.crl").write_bytes((other.folder / "revoked.crl").read_bytes())
        with pytest.raises(InputError, match=r"revoked\.crl: not signed by this authority"):
            authority.issued()

    @pytest.mark.parametrize("name", ["authority.pem", "authority.key", "revoked.crl"])
    @pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAA\n", None])
    def test_broken_files(self, authority: Authority, name: str, content: bytes | None) -> None:
        path = authority.folder / name
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(InputError, match=r"not usable PEM|no authority there|not a usable revocation list"):
            Authority(authority.folder).issued()

    def test_another_key(self, authority: Authority, tmp_path: Path) -> None:
        other = Authority.init(tmp_path / "other", "x")
        (authority.folder / "authority.key").write_bytes((other.folder / "authority.key").read_bytes())
        with pytest.raises(InputError, match="is not the key of"):
            Authority(authority.folder)


class TestCommand:
    def test_does_all(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = str(tmp_path / "ca")

        def run(action: str, *arguments: str) -> int:
            return main(["certificates", action, folder, *arguments])

        assert run("init") == 0
        assert run("issue", "server", "node", "--for", "localhost") == 0
        assert run("issue", "site", "a", "--days", "30") == 0
        assert run("renew", "site", "a") == 0
        assert run("revoke", "site", "a") == 0
        capsys.readouterr()
        assert run("list", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert [(one["name"], one["state"]) for one in found] == [("node", "valid"), ("a", "revoked"), ("a", "revoked")]
        assert run("list") == 0
        assert capsys.readouterr().out.count("\n") == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("init",), "there is an authority already"),
            (("issue", "server", "node"), "expected the DNS names or addresses"),
            (("issue", "site", "a", "--for", "x"), "a site has no addresses"),
            (("issue", "site", "a", "--days", "0"), "expected 1 to 3650"),
            (("revoke", "site", "a", "--serial", "x"), "expected a serial number"),
        ],
    )
    def test_says_what_is_wrong(
        self, authority: Authority, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["certificates", arguments[0], str(authority.folder), *arguments[1:]]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_that_no_certificate_takes(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificates", "init", str(tmp_path / "new" / "ca"), "--name", name]) == 2
    assert "name: expected 1 to 64 characters" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
