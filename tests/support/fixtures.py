"""What the tests of several folders start from; their conftest.py names what they use."""

from __future__ import annotations

import pytest

from mixpriv.bundle import Bundle
from mixpriv.client.pipeline import Pipeline, open_pipeline
from mixpriv.engine.in_process import InProcessSegmenter
from mixpriv.key import ClientKey
from mixpriv.protection.modes import Mixup
from tests.support.phantom import write_reference_model
from tests.support.toybundle import write_toy_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A toy bundle with a reference model."""
    bundle = write_toy_bundle(tmp_path_factory.mktemp("toy"))
    write_reference_model(bundle)
    return bundle


@pytest.fixture
def pipeline(bundle: Bundle) -> Pipeline:
    """The toy bundle in mode mixup, its segmenter in this process."""
    return open_pipeline(bundle, Mixup(), ClientKey(bytes(range(32))), InProcessSegmenter(bundle.segmenter_path))
