"""Values of a segmentation: numbers of a bundle, of the left and the right of a class, and what they mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixpriv.bundle import Bundle, load_bundle
from mixpriv.errors import InputError
from mixpriv.labels import LEFT, RIGHT, Labelling
from tests.support.toybundle import write_structures_bundle


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_structures_bundle(tmp_path_factory.mktemp("structures"))


def test_a_bundle_without_numbers_writes_the_numbers_of_its_classes() -> None:
    labelling = Labelling.of(load_bundle("brain-t1"))
    assert labelling.labels == labelling.classes
    assert [label.index for label in labelling.labels] == list(range(6))
    assert not labelling.is_sided
    assert labelling.labels[1].name == "white matter"


def test_each_side_has_a_row(structures: Bundle) -> None:
    rows = Labelling.of(structures).labels
    assert [(row.index, row.name, row.abbreviation) for row in rows] == [
        (0, "background", "BG"),
        (2, "left white matter", "L-WM"),
        (3, "left grey matter", "L-GM"),
        (4, "left internal CSF", "L-VENT"),
        (11, "left nuclei", "L-SGM"),
        (24, "external CSF", "ECSF"),
        (41, "right white matter", "R-WM"),
        (42, "right grey matter", "R-GM"),
        (43, "right internal CSF", "R-VENT"),
        (50, "right nuclei", "R-SGM"),
    ]
    assert rows[1].color == rows[6].color


def test_what_is_written(structures: Bundle) -> None:
    labelling = Labelling.of(structures)
    assert labelling.written(LEFT).tolist() == [0, 2, 3, 11, 4, 24]
    assert labelling.written(RIGHT).tolist() == [0, 41, 42, 50, 43, 24]
    assert labelling.sided.tolist() == [0, 1, 2, 3, 4, 0]


def test_what_is_read(structures: Bundle) -> None:
    labelling = Labelling.of(structures)
    labels = np.array([[0, 2, 41], [5, 44, 24]])
    assert labelling.classes_of(labels).tolist() == [[0, 1, 1], [4, 4, 5]]  # 5 and 44 are merged into 4 and 43
    with pytest.raises(InputError, match=r"^map: expected labels 0, 2, 3, 4, 5, 11, 24, 41, .*, got others$"):
        labelling.require(np.array([85, 2]), "map")
    labelling.require(labels, "map")
    known, written = labelling.read(np.array([85, 2, 44, -1, 1002, 2.5]))
    assert known.tolist() == [False, True, True, False, False, False]
    assert written.tolist() == [0, 2, 43, 0, 0, 0]


def test_tissues(structures: Bundle) -> None:
    labelling = Labelling.of(structures, tissues=True)
    assert [(label.index, label.name) for label in labelling.labels] == [(0, "background"), (1, "tissue"), (2, "fluid")]
    assert labelling.merges == (0, 1, 1, 1, 2, 2)
    with pytest.raises(InputError, match=r"^bundle hippocampus: expected one whose classes merge to tissues, got"):
        Labelling.of(load_bundle("hippocampus"), tissues=True)


def test_names_stand_without_abbreviations(structures: Bundle) -> None:
    rows = Labelling.of(replace(structures, abbreviations=None, colors=None)).labels
    assert {row.abbreviation for row in rows} == {"n/a"}
    assert all(row.color.startswith("#") for row in rows)


def test_the_config_of_structures_says_what_freesurfer_says() -> None:
    """Numbers and colours as in FreeSurferColorLUT.txt."""
    import tomllib

    import mixpriv.training

    path = Path(mixpriv.training.__file__).parent / "configs" / "brain-t1-structures.toml"
    said = tomllib.loads(path.read_text(encoding="utf-8"))["bundle"]
    written = {name: [side[0] for side in sides] for name, sides in zip(said["classes"], said["labels"], strict=True)}
    colors = dict(zip(said["classes"], said["colors"], strict=True))
    tissues = {
        name: said["tissues"]["classes"][of] for name, of in zip(said["classes"], said["tissues"]["of"], strict=True)
    }
    assert written["hippocampus"] == [17, 53]
    assert written["ventral DC"] == [28, 60]
    assert written["brain stem"] == [16]
    assert sorted(number for numbers in written.values() for number in numbers) == [
        0, 2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28,
        41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60,
    ]  # fmt: skip
    assert colors["caudate"] == f"#{122:02x}{186:02x}{220:02x}"
    assert tissues["amygdala"] == "grey matter"
    assert tissues["third ventricle"] == "ventricles"
    assert tissues["accumbens"] == "subcortical grey matter"
