"""Which sites a front serves, and how much of the server each may use: a TOML file."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mixpriv.errors import InputError
from mixpriv.server.certificates import site_name

_MOST = {"requests_per_minute": 1200, "burst": 1200, "at_once": 64, "waiting": 256}


@dataclass(frozen=True)
class Site:
    """One site and its quota.

    Attributes
    ----------
    name : as in its certificate
    requests_per_minute : inferences, on average
    burst : how many may come faster than that
    at_once : how many of its inferences the server works on or has in its queue
    waiting : how many more wait at the front, for their turn among the site's own
    """

    name: str
    requests_per_minute: int = 60
    burst: int = 8
    at_once: int = 2
    waiting: int = 16


def load_sites(path: Path) -> list[Site]:
    """Read ``[sites.NAME]`` tables; what they leave out comes from ``[default]``, then from `Site`.

    Raises
    ------
    InputError
        the file is unreadable, names no site, or holds something else than quotas in their range.
    """
    document = _read(path)
    unknown = document.keys() - {"default", "sites"}
    if unknown:
        raise InputError(f"{path}: expected [default] and [sites.NAME], got {sorted(unknown)[0]}")
    default = _quota(path, "default", document.get("default", {}))
    sites = document.get("sites")
    if not isinstance(sites, dict) or not sites:
        raise InputError(f"{path}: expected at least one [sites.NAME]")
    return [Site(site_name(name), **default | _quota(path, f"sites.{name}", table)) for name, table in sites.items()]


def _quota(path: Path, where: str, table: Any) -> dict[str, int]:
    known = [field.name for field in fields(Site) if field.name != "name"]
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected a table [{where}]")
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{path}: [{where}] {key}: expected one of {', '.join(known)}")
        if type(value) is not int or not 1 <= value <= _MOST[key]:
            raise InputError(f"{path}: [{where}] {key}: expected 1 to {_MOST[key]}, got {value!r}")
    return dict(table)


def _read(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
