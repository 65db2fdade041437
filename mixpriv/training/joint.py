"""Joint training of S and D, end to end: ``L_mix(S(x_mix), a y + (1-a) y_r) + lambda L_unmix(D(...), y)``.

One S serves every mode: a share of the steps is unmixed (a = 1). Source: Kim et al., Mixup-Privacy, IPMI 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from mixpriv.errors import InputError
from mixpriv.training.config import JointConfig
from mixpriv.training.data.sources import open_targets
from mixpriv.training.examples import Ahead, Example, Examples, ReferencePool
from mixpriv.training.loop import Initial, autocast, fit
from mixpriv.training.networks import SpaceToDepthUNet, Unmixer, unmixer_input
from mixpriv.training.specs import SEEN
from mixpriv.training.unlabelled import WithUnlabelled


class SegmentationLoss(nn.Module):
    """Cross-entropy plus soft Dice against class probabilities (N, C, D, H, W).

    With class weights, errors in a class count as many times. That alone would make the network say it too often: the
    best answer to a weighted cross-entropy has each probability times its weight. So the weights are put on the answer
    here, and what the network says is the probability itself, as mixing needs it.
    """

    weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.dice = DiceLoss(softmax=True, soft_label=True, smooth_nr=1.0, smooth_dr=1.0)
        self.register_buffer("weights", torch.tensor(class_weights) if class_weights else None)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        weighted = logits if self.weights is None else logits + self.weights.log().view(1, -1, 1, 1, 1)
        loss: Tensor = F.cross_entropy(weighted, target, self.weights) + self.dice(logits, target)
        return loss


class JointModel(nn.Module):
    """S and D together; without S it is what a client could do alone."""

    def __init__(self, segmenter: SpaceToDepthUNet | None, unmixer: Unmixer) -> None:
        super().__init__()
        self.segmenter, self.unmixer = segmenter, unmixer

    @staticmethod
    def of(config: JointConfig) -> JointModel:
        """The networks of a config, untrained."""
        classes, modalities = len(config.task.classes), len(config.task.modalities)
        segmenter = None if config.alone else SpaceToDepthUNet(modalities, classes, config.networks.filters)
        images = SEEN[config.networks.unmixer_sees] * modalities
        return JointModel(segmenter, Unmixer(classes, config.networks.unmixer_filters, images))


def losses(model: JointModel, loss: SegmentationLoss, example: Example, config: JointConfig) -> dict[str, Tensor]:
    """Of mixtures ``mixed`` (L_mix) and ``unmixed`` (lambda L_unmix), whose gradient reaches S; else ``plain``.

    ``alone``: of a D that has no answer, beside plain.
    """
    if example.reference is None:
        return _plain_losses(model, loss, example, config)
    assert model.segmenter is not None  # noqa: S101 - nothing is mixed without it
    weight = example.weight.view(-1, 1, 1, 1, 1)
    with autocast(), torch.set_grad_enabled(not config.frozen):
        logits = model.segmenter(example.image)
    logits = logits.float()
    probabilities = example.unwarped(logits.softmax(1))
    share = weight.expand_as(example.image[:, :1])
    with autocast():
        known = unmixer_input(
            probabilities if config.losses.joint else probabilities.detach(), example.reference, share
        )
        corrected = model.unmixer(known, example.seen(config.networks.unmixer_sees))
        unmixed = config.losses.unmix_lambda * loss(corrected.float(), example.target)
    if config.frozen:
        return {"unmixed": unmixed}
    said = logits if example.back is None else probabilities.clamp_min(1e-6).log()
    return {"mixed": loss(said, weight * example.target + (1 - weight) * example.reference), "unmixed": unmixed}


def _plain_losses(
    model: JointModel, loss: SegmentationLoss, example: Example, config: JointConfig
) -> dict[str, Tensor]:
    result = {}
    with autocast():
        if model.segmenter is not None and not config.frozen:
            result["plain"] = loss(model.segmenter(example.image).float(), example.target)
        if config.lone_unmixer:
            result["alone"] = config.losses.unmix_lambda * loss(
                model.unmixer(None, example.image).float(), example.target
            )
    return result


def train_joint(
    config: JointConfig,
    data: Path,
    folder: Path,
    initial: Initial | None = None,
    unmixer: Initial | None = None,
    self_training: tuple[Path, Initial] | None = None,
) -> Path:
    """Train S and D, resuming from the folder; weights of an earlier run may start a new one.

    ``unmixer``: weights that D alone starts from, in place of those of ``initial``.
    ``self_training``: a BIDS folder of scans without labels, and the teacher that labels them. Writes the reference
    model beside the checkpoints; returns the path of the averaged weights.
    """
    torch.manual_seed(config.seed)
    model, loss = JointModel.of(config), SegmentationLoss(config.losses.class_weights)
    start = _start(model, config, initial, unmixer)
    targets = open_targets(config, data)
    if self_training is not None:
        targets = WithUnlabelled.read(targets, config, *self_training)
    reference_model = targets.reference_model()
    folder.mkdir(parents=True, exist_ok=True)
    reference_model.save(folder / "reference.npz")
    source = Examples(config, targets, ReferencePool(reference_model, config.seed, config.data.references))
    if config.frozen and model.segmenter is not None:
        model.segmenter.requires_grad_(False)
    with Ahead(source.at) as examples:
        return fit(model, lambda k: losses(model, loss, examples(k), config), config.schedule, folder, start)


def _start(model: JointModel, config: JointConfig, initial: Initial | None, unmixer: Initial | None) -> Initial | None:
    if initial is None:
        if unmixer is not None:
            raise InputError("--initial-unmixer: expected weights of the segmenter to start from, too")
        if config.frozen:
            raise InputError("frozen: expected weights of the segmenter to start from")
        return None
    weights = dict(initial.weights)
    if unmixer is not None:
        own = {name: value for name, value in unmixer.weights.items() if name.startswith("unmixer.")}
        if not own:
            raise InputError("--initial-unmixer: expected a run with an unmixer, got one without")
        weights |= own
    elif config.frozen:
        weights |= {f"unmixer.{name}": value.detach() for name, value in model.unmixer.named_parameters()}
    return Initial(weights, initial.steps)
