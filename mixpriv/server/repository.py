"""What Triton serves, written from the bundle and the wire contract (no torch, no Triton needed)."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib import resources
from pathlib import Path

from mixpriv.bundle import Bundle, load_bundle, shipped_bundles
from mixpriv.errors import InputError, OutputError
from mixpriv.wire.contract import SegmenterContract, TensorSpec

_BATCH_VOXELS = 2**22
"""A batch holds at most about so many: large volumes gain nothing together, and each waits for the last."""

_MAX_BATCH = 8
_QUEUE_SIZE = 16
_QUEUE_TIMEOUT_US = 60_000_000


def repository_files(bundle: Bundle) -> dict[str, str]:
    """The generated texts by path in the repository: all of it but the network itself, ``segmenter.onnx``."""
    model = resources.files("mixpriv.server").joinpath("model.py").read_text(encoding="utf-8")
    return {
        f"{bundle.model_name}/config.pbtxt": config_text(bundle),
        f"{bundle.model_name}/{bundle.model_version}/model.py": model,
    }


def write_repository(bundle: Bundle, folder: Path, *, link: bool = False) -> None:
    """Write a complete model repository, which can be copied to another machine unless `link` is set.

    Parameters
    ----------
    folder : made if need be
    link : point to the bundle's network instead of copying it

    Raises
    ------
    InputError
        the bundle has no segmenter.
    OutputError
        the folder already holds this model, or cannot be written.
    """
    network = bundle.segmenter_path
    if not network.is_file():
        raise InputError(f"bundle {bundle.name}: {network} is missing")
    if (folder / bundle.model_name).exists():
        raise OutputError(f"{folder / bundle.model_name} already exists")
    try:
        target = _write_texts(bundle, folder) / network.name
        if link:
            target.symlink_to(network.resolve())
        else:
            shutil.copyfile(network, target)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write the model repository: {error.strerror}") from None


def refresh(folder: Path) -> None:
    """Write the repository that stands in git anew: all shipped bundles, their networks as relative links."""
    for bundle in map(load_bundle, shipped_bundles()):
        shutil.rmtree(folder / bundle.model_name, ignore_errors=True)
        version = _write_texts(bundle, folder)
        target = os.path.relpath(bundle.segmenter_path, version)
        (version / bundle.segmenter_path.name).symlink_to(target)


def _write_texts(bundle: Bundle, folder: Path) -> Path:
    """Write the generated texts and return the folder where the network belongs."""
    for path, text in repository_files(bundle).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder / bundle.model_name / str(bundle.model_version)


def config_text(bundle: Bundle) -> str:
    """Triton's model configuration (config.pbtxt) of the bundle's segmenter."""
    contract = SegmenterContract.of(bundle)
    warmup = (contract.mixture.shape[0], *bundle.grid_shape)
    voxels = bundle.grid_shape[0] * bundle.grid_shape[1] * bundle.grid_shape[2]
    return f"""\
# Generated from the bundle and the wire contract; do not edit.
name: {_quoted(contract.model_name)}
backend: "python"
max_batch_size: {max(1, min(_MAX_BATCH, _BATCH_VOXELS // voxels))}
input [ {_tensor(contract.mixture)} ]
output [ {_tensor(contract.segmentation_mixture)} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {_QUEUE_TIMEOUT_US}
    max_queue_size: {_QUEUE_SIZE}
  }}
}}
model_warmup [
  {{
    name: "zeros"
    batch_size: 1
    inputs {{
      key: {_quoted(contract.mixture.name)}
      value: {{ data_type: TYPE_{contract.mixture.dtype} dims: {list(warmup)} zero_data: true }}
    }}
  }}
]
""" + "".join(
        f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}\n"
        for key, value in contract.parameters.items()
    )


def _tensor(spec: TensorSpec) -> str:
    return f"{{ name: {_quoted(spec.name)} data_type: TYPE_{spec.dtype} dims: {list(spec.shape)} }}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    refresh(Path(sys.argv[1]))
