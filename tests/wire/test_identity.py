"""Certificates judged before they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixpriv.errors import InputError
from mixpriv.wire.tls import check_authorities, check_identity
from tests.support.certificates import Authority, Party, needs_openssl

pytestmark = needs_openssl
PAST = {"not_before": "20200101000000Z", "not_after": "20200201000000Z"}
FUTURE = {"not_before": "20990101000000Z", "not_after": "20990201000000Z"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def test_tells_the_names(authority: Authority) -> None:
    server, client = authority.server("node.example.org"), authority.client()
    assert check_identity(server.certificate, server.key, of_server=True) == ("node.example.org",)
    assert check_identity(client.certificate, client.key) == ("client",)


@pytest.mark.parametrize(("dates", "message"), [(PAST, "certificate has expired"), (FUTURE, "not yet valid")])
def test_refuses_a_wrong_time(authority: Authority, dates: dict[str, str], message: str) -> None:
    client, server = authority.client("old", **dates), authority.server("old", **dates)
    with pytest.raises(InputError, match=rf"old\.pem: no peer would accept it: .*{message}"):
        check_identity(client.certificate, client.key)
    with pytest.raises(InputError, match=rf"old\.pem: no peer would accept it: .*{message}"):
        check_identity(server.certificate, server.key, of_server=True)


def test_refuses_another_use(authority: Authority) -> None:
    server, client = authority.server(), authority.client()
    with pytest.raises(InputError, match="purpose"):
        check_identity(server.certificate, server.key)
    with pytest.raises(InputError, match="purpose"):
        check_identity(client.certificate, client.key, of_server=True)


def test_refuses_a_key_of_another(authority: Authority) -> None:
    one, other = authority.client("one"), authority.client("other")
    with pytest.raises(InputError, match=r"one\.pem: not a usable PEM certificate \(KEY_VALUES_MISMATCH\)"):
        check_identity(one.certificate, other.key)


def test_refuses_an_encrypted_key(authority: Authority, tmp_path: Path) -> None:
    import subprocess

    client = authority.client("encrypted")
    locked = Party(client.certificate, tmp_path / "locked.key")
    command = ["openssl", "ec", "-in", client.key, "-aes256", "-passout", "pass:x", "-out", locked.key]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    with pytest.raises(InputError, match="encrypted, expected one without a password"):
        check_identity(locked.certificate, locked.key)


def test_authorities_must_be_certificates(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pem: not a usable PEM certificate"):
        check_authorities(tmp_path / "text.pem")


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_refuses_a_key_that_others_may_know(authority: Authority, mode: int) -> None:
    for party, of_server in ((authority.client("shown"), False), (authority.server("shown"), True)):
        party.key.chmod(mode)
        with pytest.raises(
            InputError, match=rf"tls: .*shown\.key: expected mode 0600, got {mode:04o}; others may know"
        ):
            check_identity(party.certificate, party.key, of_server=of_server)
