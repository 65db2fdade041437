"""Images that somebody else's tool protected: defaced, with noise, warped, or made anew, each beside its original."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixpriv.audit.cohort import Visit, scans_in
from mixpriv.bundle import Bundle
from mixpriv.errors import InputError
from mixpriv.imaging.preprocess.preprocessor import Preprocessor
from mixpriv.imaging.resample import Conformed, to_grid
from mixpriv.imaging.volume import Volume, load_volume
from mixpriv.protection.draws import KeyedDraws
from mixpriv.protection.mixing import normalised
from mixpriv.protection.modes import Protected, Secret
from mixpriv.timing import Timings


@dataclass(frozen=True)
class Images:
    """A protection known by what it made: ``images`` (M, D, H, W) by the content of the original."""

    name: str
    images: Mapping[bytes, NDArray[np.float16]] = field(repr=False)

    def require(self, bundle: Bundle) -> None:
        """Every bundle will do."""

    def requests(self, conformed: Callable[[], Conformed], draws: KeyedDraws) -> Iterator[Protected]:
        """The protected image, whatever the key: others cannot make it anew."""
        if draws.content not in self.images:
            raise InputError(f"{self.name}: expected a protected image of each scan that is attacked, one is missing")
        yield Protected(self.images[draws.content], Secret())


def read_protected(
    name: str, folder: Path, originals: Path, visits: Sequence[Visit], preprocess: Preprocessor
) -> Images:
    """Read the protected image of each original, of the same name below another folder.

    Each is brought into the bundle's grid as the client brings a scan. Where no brain is found in it, the original's
    grid is taken, which helps the attacker.

    Parameters
    ----------
    visits : of the originals, in the order of `mixpriv.audit.cohort.read_visits`

    Raises
    ------
    InputError
        one is missing or cannot be read.
    """
    images: dict[bytes, NDArray[np.float16]] = {}
    for path, visit in zip(scans_in(originals)[: len(visits)], visits, strict=True):
        protected = folder / path.relative_to(originals)
        if not protected.is_file():
            raise InputError(f"{protected}: expected the protected image of {path}, got none")
        seen = _seen(load_volume(protected), visit, preprocess)
        images[visit.content] = seen
        # the person whom `cohort.mirror` makes up of this one
        images[bytes(reversed(visit.content))] = np.ascontiguousarray(seen[:, ::-1])
    return Images(name, images)


def _seen(volume: Volume, visit: Visit, preprocess: Preprocessor) -> NDArray[np.float16]:
    try:
        return normalised(preprocess(volume, Timings()))
    except InputError:
        image = to_grid(volume, visit.conformed.grid)
        low, high = np.percentile(image, (0.5, 99.5))
        return np.asarray(np.clip((image - low) / max(float(high - low), 1e-6), 0, 1)[None], np.float16)
