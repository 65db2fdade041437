"""Sites and their quotas: what a file may say."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the server extra")

from mixpriv.errors import InputError
from mixpriv.server.sites import Site, load_sites


def test_own_values_then_the_files_then_ours(tmp_path: Path) -> None:
    path = tmp_path / "sites.toml"
    path.write_text("[default]\nat_once = 4\n[sites.a]\n[sites.hospital-b]\nat_once = 1\nwaiting = 3\n")
    assert load_sites(path) == [Site("a", at_once=4), Site("hospital-b", at_once=1, waiting=3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected at least one"),
        ("sites = 3", "expected at least one"),
        ("[sites]\na = 3", r"expected a table \[sites.a\]"),
        ("[site.a]", "expected .default. and .sites.NAME., got site"),
        ("[sites.A]", "name: expected up to 63 lower-case letters"),
        ("[sites.a]\nrate = 1", "rate: expected one of requests_per_minute, burst, at_once, waiting"),
        ("[sites.a]\nat_once = 0", "at_once: expected 1 to 64, got 0"),
        ("[sites.a]\nwaiting = 0", "waiting: expected 1 to 256, got 0"),
        ("[sites.a]\nat_once = true", "at_once: expected 1 to 64, got True"),
        ("[sites.a]\nat_once = 1.5", "at_once: expected 1 to 64, got 1.5"),
        ("[sites.a]\nname = 'b'", "name: expected one of"),
        ("[sites.a", "not a TOML file"),
        ("\0", "not a TOML file"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sites.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_sites(tmp_path / "sites.toml")


def test_says_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_sites(tmp_path / "sites.toml")
