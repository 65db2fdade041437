"""The series of a folder, and which of them is a T1-weighted head scan: judged by headers, told without names."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixpriv.errors import InputError, printable
from mixpriv.imaging.dicom.files import each_dicom, read_header
from mixpriv.imaging.size import MIN_VOXELS_PER_AXIS

_CLASSIC, _ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
_LEGACY = "1.2.840.10008.5.1.4.1.1.4.4"
_MR = (_CLASSIC, _ENHANCED, _LEGACY)
_IDENTIFYING = ("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientAddress", "AccessionNumber",
                "InstitutionName", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
                "PhysiciansOfRecord", "RequestingPhysician", "StationName", "StudyID")  # fmt: skip
_TAGS = [
    *_IDENTIFYING, "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription",
    "ProtocolName", "SequenceName", "Modality", "ImageType", "ScanningSequence", "MRAcquisitionType", "RepetitionTime",
    "EchoTime", "InversionTime", "FlipAngle", "NumberOfFrames", "SliceThickness", "AcquisitionContrast",
    "ComplexImageComponent", "DiffusionBValue", "ContrastBolusAgent",
]  # fmt: skip
_DERIVED_KINDS = ("LOCALIZER", "PROJECTION IMAGE", "MPR", "MIP", "MIN_IP", "SUBTRACTION", "DIFFUSION", "ADC", "FA",
                  "TRACEW", "MOSAIC", "PHASE", "PHASE MAP", "P", "T1 MAP", "T2 MAP", "CSA REPORT", "SCREEN SAVE",
                  "PERFUSION", "B0", "FIELD MAP")  # fmt: skip
_OTHER_WORDS = re.compile(
    r"t2|flair|dwi|dti|diff|adc|\bpd\b|swi|swan|\btof|angio|mra\b|loc(ali[sz]er)?\b|scout|survey|plan|field.?map|bold|"
    r"fmri|ep2d|asl|perf|dce|dsc|spine|knee|mag\b|phase|ciss|fiesta|space_t2|cube.?t2"
)
_T1_WORDS = re.compile(r"t1|mp.?rage|mp2rage|bravo|spgr|\btfl|tfe|vibe|fl3d|fl2d|flash|mdeft|ir-?fspgr")


@dataclass(frozen=True)
class Series:
    """The images of one series; ``headers`` have only what is needed to judge them."""

    uid: str
    files: tuple[Path, ...] = field(repr=False)
    headers: tuple[Any, ...] = field(repr=False)

    @property
    def number(self) -> str:
        """By which people name it; empty if it has none."""
        return _text(self.headers[0], "SeriesNumber")

    @property
    def images(self) -> int:
        """Slices, or what else its images show."""
        return sum(_whole(header.get("NumberOfFrames")) or 1 for header in self.headers)

    @property
    def three_dimensional(self) -> bool:
        """Whether it was acquired as a volume, not slice by slice."""
        return _text(self.headers[0], "MRAcquisitionType") == "3D"

    def unfit(self) -> str:
        """Why it cannot be a T1-weighted head scan; empty if it may be one."""
        first = self.headers[0]
        if first.get("SOPClassUID") not in _MR:
            return f"{_code(first.get('Modality')) or 'no'} image, not MR"
        if self.images < MIN_VOXELS_PER_AXIS:
            return f"{self.images} images"
        kinds = {str(kind).upper() for kind in _several(first.get("ImageType"))}
        kind = next((kind for kind in _DERIVED_KINDS if kind in kinds), "")
        if kind or _text(first, "ComplexImageComponent") == "PHASE":
            return f"image type {kind or 'PHASE'}"
        if "EP" in _several(first.get("ScanningSequence")) or first.get("DiffusionBValue"):
            return "echo-planar"
        return "" if self.weighting() else "nothing says T1-weighted"

    def weighting(self) -> str:
        """What says that it is T1-weighted: its name, its contrast or its timing; empty if nothing does."""
        first = self.headers[0]
        words = " ".join(_text(first, name) for name in ("SeriesDescription", "ProtocolName", "SequenceName"))
        words = words.lower().replace("_", " ")
        if _T1_WORDS.search(words) and not _OTHER_WORDS.search(_T1_WORDS.sub(" ", words)):
            return "its name"
        if _OTHER_WORDS.search(words):
            return ""
        if _text(first, "AcquisitionContrast") == "T1":
            return "its contrast"
        repetition, echo = _number(first.get("RepetitionTime")), _number(first.get("EchoTime"))
        gradient = "GR" in _several(first.get("ScanningSequence"))
        if repetition is None or echo is None:
            return ""
        short = repetition < 50 and echo < 8 if gradient else 250 < repetition < 1000 and echo < 25
        return "its timing" if short or (gradient and echo < 8 and _number(first.get("InversionTime"))) else ""

    def told(self) -> str:
        """In a few words, without what could tell who it is.

        A description is told only if no word of a name or number of the patient, or of the hospital, is in it.
        """
        first = self.headers[0]
        description = _text(first, "SeriesDescription")
        secret = {
            word.lower()
            for header in self.headers[:1]
            for name in _IDENTIFYING
            for word in re.split(r"[\s^=,;/\\]+", str(header.get(name) or ""))
            if len(word) > 1
        }
        shown = f" ({printable(description, 40)})" if description and not _any_in(secret, description.lower()) else ""
        kind = "3-D" if self.three_dimensional else "2-D" if _text(first, "MRAcquisitionType") == "2D" else ""
        parts = [_code(first.get("Modality")), kind, f"{self.images} images"]
        return f"series {self.number or '?'}{shown}: {', '.join(filter(None, parts))}"


def find_series(files: list[Path], folder: Path) -> list[Series]:
    """Sort files by series, the copies of one image counted once.

    Raises
    ------
    InputError
        none of them has images, or can be read.
    """
    found: dict[str, dict[str, tuple[Path, Any]]] = defaultdict(dict)
    for path in files:
        header = read_header(path, _TAGS)
        if header is not None and header.get("SeriesInstanceUID") and header.get("SOPInstanceUID"):
            found[str(header.SeriesInstanceUID)].setdefault(str(header.SOPInstanceUID), (path, header))
    if not found:
        raise InputError(f"{folder}: its DICOM files are damaged, compressed as a whole, or hold no images")
    series = [
        Series(uid, tuple(path for path, _ in images.values()), tuple(header for _, header in images.values()))
        for uid, images in found.items()
    ]
    return sorted(series, key=lambda one: (_number(one.number) or 0, one.uid))


def choose(series: list[Series], wanted: str | None, folder: Path) -> tuple[Series, tuple[str, ...]]:
    """Choose the series that is wanted, by number or UID, or else the one that is a 3-D T1w; and say why.

    Raises
    ------
    InputError
        none fits, or several do: they are listed.
    """
    if wanted is not None:
        named = [one for one in series if wanted in (one.number, one.uid)]
        if len(named) == 1:
            return require_mr(named[0], folder), ()
        what = "several" if named else "none"
        raise InputError(f"{folder}: --series {printable(wanted, 70)}: {what} of that number; found {_list(series)}")
    fitting = [one for one in series if not one.unfit()]
    fitting = [one for one in fitting if one.three_dimensional] or fitting
    if not fitting:
        reasons = "; ".join(f"{one.told()} ({one.unfit()})" for one in series[:12])
        raise InputError(f"{folder}: expected a T1-weighted MR series, found {reasons}")
    if len(fitting) > 1:
        raise InputError(f"{folder}: several series may be T1-weighted, choose by --series: {_list(fitting)}")
    chosen = fitting[0]
    if len(series) == 1:
        return chosen, ()
    return chosen, (f"took {chosen.told()}; {chosen.weighting()} says T1w, as of no other of {len(series)} series",)


def require_mr(series: Series, path: Path) -> Series:
    """Refuse what are no MR images; returns the series."""
    if series.headers[0].get("SOPClassUID") not in _MR:
        kind = _code(series.headers[0].get("Modality")) or "another kind"
        raise InputError(f"{path}: expected MR images, got {kind}")
    return series


def has_mr(folder: Path) -> bool:
    """Whether any DICOM file of a folder is an MR image; True also where that cannot be known: its reader will tell."""
    try:
        headers = (read_header(path, ["SOPClassUID"]) for path in each_dicom(folder))
        return any(header is None or header.get("SOPClassUID") in _MR for header in headers)
    except InputError:
        return True


def _list(series: list[Series]) -> str:
    return "; ".join(one.told() for one in series[:12])


def _any_in(words: set[str], text: str) -> bool:
    return any(word in text for word in words)


def _text(header: Any, name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value).strip()


def _code(value: Any) -> str:
    """A short code, such as that of a modality: nothing else may stand where it should."""
    text = str(value or "")
    return text if re.fullmatch("[A-Z0-9]{1,8}", text) else ""


def _several(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(one) for one in value or ()]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _whole(value: Any) -> int:
    number = _number(value)
    return int(number) if number is not None and 0 < number < 1e6 else 0
