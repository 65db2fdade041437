"""What Triton serves, written from the bundle and the wire contract (no torch, no Triton needed)."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from mixpriv.bundle import Bundle, load_bundle, shipped_bundles
from mixpriv.errors import InputError, OutputError
from mixpriv.server.platforms import PLATFORMS, Platform, plan_of, sources
from mixpriv.wire.contract import SegmenterContract, TensorSpec

_BATCH_VOXELS = 2**22
"""A batch holds at most about so many: large volumes gain nothing together, and each waits for the last."""

_MAX_BATCH = 8
_QUEUE_SIZE = 16
_QUEUE_TIMEOUT_US = 60_000_000


def repository_files(
    bundle: Bundle, platform: Platform = PLATFORMS["python"], export: Path | None = None
) -> dict[str, str]:
    """The generated texts by path in the repository: all of it but the network itself."""
    texts = {f"{bundle.model_name}/config.pbtxt": config_text(bundle, platform, export)}
    if platform.name == "python":
        model = resources.files("mixpriv.server").joinpath("model.py").read_text(encoding="utf-8")
        texts[f"{bundle.model_name}/{bundle.model_version}/model.py"] = model
    return texts


def write_repository(
    bundle: Bundle, folder: Path, *, platform: str = "python", export: Path | None = None, link: bool = False
) -> None:
    """Write a complete model repository, which can be copied to another machine unless `link` is set.

    Parameters
    ----------
    folder : made if need be
    platform : how Triton runs the network, a name of `PLATFORMS`
    export : folder of ``mixpriv export``, for what the platform loads
    link : point to the network instead of copying it

    Raises
    ------
    InputError
        the network is missing, or what was exported is not the bundle's.
    OutputError
        the folder already holds this model, or cannot be written.
    """
    chosen = PLATFORMS[platform]
    networks = sources(chosen, bundle, export)
    if (folder / bundle.model_name).exists():
        raise OutputError(f"{folder / bundle.model_name} already exists")
    try:
        version = _write_texts(bundle, folder, repository_files(bundle, chosen, export))
        for network in networks:
            if link:
                (version / network.name).symlink_to(network.resolve())
            else:
                shutil.copyfile(network, version / network.name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write the model repository: {error.strerror}") from None


def verify_repository(bundle: Bundle, folder: Path, *, platform: str = "python", export: Path | None = None) -> None:
    """Refuse a repository that is not what `write_repository` writes, such as one changed by hand.

    Raises
    ------
    InputError
        naming the file that is missing, changed or too many.
    """
    chosen = PLATFORMS[platform]
    version = f"{bundle.model_name}/{bundle.model_version}"
    expected = {path: text.encode() for path, text in repository_files(bundle, chosen, export).items()}
    expected |= {f"{version}/{path.name}": path.read_bytes() for path in sources(chosen, bundle, export)}
    present = {str(path.relative_to(folder)) for path in (folder / bundle.model_name).rglob("*") if path.is_file()}
    for name in sorted(expected.keys() | present):
        if name not in present or name not in expected or (folder / name).read_bytes() != expected[name]:
            problem = "is missing" if name not in present else "is not what is generated from the bundle"
            raise InputError(f"{folder / name} {problem}")


def refresh(folder: Path) -> None:
    """Write the repository that stands in git anew: all shipped bundles, their networks as relative links."""
    for bundle in map(load_bundle, shipped_bundles()):
        shutil.rmtree(folder / bundle.model_name, ignore_errors=True)
        version = _write_texts(bundle, folder, repository_files(bundle))
        target = os.path.relpath(bundle.segmenter_path, version)
        (version / bundle.segmenter_path.name).symlink_to(target)


def _write_texts(bundle: Bundle, folder: Path, texts: Mapping[str, str]) -> Path:
    """Write the generated texts and return the folder where the network belongs."""
    version = folder / bundle.model_name / str(bundle.model_version)
    version.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        (folder / path).write_text(text, encoding="utf-8")
    return version


def config_text(bundle: Bundle, platform: Platform = PLATFORMS["python"], export: Path | None = None) -> str:
    """Triton's model configuration (config.pbtxt) of the bundle's segmenter."""
    contract = SegmenterContract.of(bundle)
    batch = _largest_batch(bundle, platform, export)
    # A plan has a profile for one volume and one for more; each is chosen, and paid for, once before clients come.
    profiles = ' profile: ["0", "1"]' if platform.name == "tensorrt" and batch > 1 else ""
    warmed = (1, batch) if profiles else (1,)
    return f"""\
# Generated from the bundle and the wire contract; do not edit.
name: {_quoted(contract.model_name)}
{platform.lines}
max_batch_size: {batch}
input [ {_tensor(contract.mixture)} ]
output [ {_tensor(contract.segmentation_mixture)} ]
instance_group [ {{ kind: {platform.kind} count: 1{profiles} }} ]
dynamic_batching {{
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {_QUEUE_TIMEOUT_US}
    max_queue_size: {_QUEUE_SIZE}
  }}
}}
model_warmup [
{",".join(_warmup(contract, size) for size in warmed)}
]
""" + "".join(
        f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}\n"
        for key, value in (*contract.parameters.items(), *platform.parameters.items())
    )


def _largest_batch(bundle: Bundle, platform: Platform, export: Path | None) -> int:
    """How many volumes are inferred together: more than one only where that pays, on a GPU.

    On a CPU a batch is no faster, its first volume waits for its last, and answers would depend on who asks meanwhile:
    an engine adds up in another order for another batch.
    """
    if not platform.batches or (platform.name == "python" and export is None):
        return 1
    largest = max(1, min(_MAX_BATCH, _BATCH_VOXELS // math.prod(bundle.grid_shape)))
    # A plan takes no more than it was built for.
    planned = largest if export is None else int(plan_of(export).settings["batch"])
    return planned if platform.name == "tensorrt" else min(planned, largest)


def _warmup(contract: SegmenterContract, batch: int) -> str:
    return f"""\
  {{
    name: {_quoted("zeros" if batch == 1 else f"zeros, {batch} volumes")}
    batch_size: {batch}
    inputs {{
      key: {_quoted(contract.mixture.name)}
      value: {{ data_type: TYPE_{contract.mixture.dtype} dims: {list(contract.mixture.shape)} zero_data: true }}
    }}
  }}"""


def _tensor(spec: TensorSpec) -> str:
    return f"{{ name: {_quoted(spec.name)} data_type: TYPE_{spec.dtype} dims: {list(spec.shape)} }}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    refresh(Path(sys.argv[1]))
