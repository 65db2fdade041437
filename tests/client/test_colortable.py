"""Colour tables tell each viewer the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mixpriv.bundle import load_bundle
from mixpriv.client.colortable import color_tables
from mixpriv.labels import Labelling

ROWS = {
    "freeview.txt": r"(?P<index>\d+) (?P<name>\S+) (?P<rgb>\d+ \d+ \d+) 0",
    "slicer.ctbl": r"(?P<index>\d+) (?P<name>\S+) (?P<rgb>\d+ \d+ \d+) (0|255)",
    "itksnap.txt": r'(?P<index>\d+) (?P<rgb>\d+ \d+ \d+) [01] [01] [01] "(?P<name>.+)"',
}


@pytest.mark.parametrize("bundle", ["brain-t1", "hippocampus"])
@pytest.mark.parametrize("viewer", ROWS)
def test_each_label_has_its_name_and_colour(bundle: str, viewer: str) -> None:
    loaded = load_bundle(bundle)
    title, *rows = color_tables(Path(), loaded)[Path(f"{bundle}_{viewer}")].decode().splitlines()
    assert title == f"# {bundle} {loaded.version}"
    for row, label in zip(rows, Labelling.of(loaded).labels, strict=True):
        found = re.fullmatch(ROWS[viewer], row)
        assert found
        assert int(found["index"]) == label.index
        assert re.sub("[-_]", " ", found["name"]) == label.name
        assert bytes(map(int, found["rgb"].split())).hex() == label.color[1:]
