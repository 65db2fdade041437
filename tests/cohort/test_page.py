from __future__ import annotations

from pathlib import Path

import pytest

from mixpriv.cohort.group import Row, read_people
from mixpriv.cohort.page import encode_page, modified_z, plots_of
from mixpriv.errors import InputError


def rows(volumes: list[float]) -> list[Row]:
    return [Row(f"sub-{n}", "", f"sub-{n}/<b>&.nii", {"brain_ml": v}, {"Mode": "none"}) for n, v in enumerate(volumes)]


def test_an_unusual_volume_is_found() -> None:
    (plot,) = plots_of(rows([1400.0 + n for n in range(20)] + [700.0]))
    assert [dot.scan[:6] for dot in plot.dots if dot.outlier] == ["sub-20"]
    assert 0 < min(dot.x for dot in plot.dots) < plot.box[0] < plot.box[1] < plot.box[2] < 640


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 7, [2.0] * 9])
def test_nothing_is_unusual_among_few_or_equal_ones(values: list[float]) -> None:
    assert modified_z(values) == [0.0] * len(values)


def test_one_among_many_equal_ones_is_unusual() -> None:
    assert modified_z([2.0] * 9 + [3.0])[-1] > 3.5


def test_names_are_escaped_and_nothing_is_fetched() -> None:
    page = encode_page([*rows([1.0] * 9), Row("sub-x", "", "gone.nii")]).decode()
    assert "<b>" not in page
    assert "sub-0/&lt;b&gt;&amp;.nii" in page
    assert "<li>gone.nii</li>" in page
    assert "src=" not in page
    assert "url(" not in page


def test_people(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_bytes(b"\xef\xbb\xbfparticipant_id\tage\tsex\nsub-01\t3\tF\n02\t4\n")
    assert read_people(tmp_path / "p.tsv") == {"sub-01": {"age": "3", "sex": "F"}, "sub-02": {"age": "4", "sex": "n/a"}}
    assert read_people(tmp_path / "none.tsv") == {}


@pytest.mark.parametrize(
    ("content", "message"), [(b"id\n1\n", "expected a column participant_id"), (b"\xff", "as text")]
)
def test_people_in_another_form(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p.tsv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_people(tmp_path / "p.tsv")
