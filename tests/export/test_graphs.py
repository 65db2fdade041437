"""The unmixer as it ships: graph and kernel together are the network that was trained."""

from __future__ import annotations

import torch
from mixpriv.export.graphs import UnmixerGraph, pack_head, unpack_head

from mixpriv import kernels
from mixpriv.training.networks import Unmixer, unmixer_input

CLASSES, SHAPE = 3, (16, 32, 16)


def trained_unmixer() -> Unmixer:
    torch.manual_seed(0)
    return Unmixer(CLASSES, (8, 16), images=1).eval()


@torch.no_grad()
def test_graph_and_kernel_are_the_network() -> None:
    unmixer, weight = trained_unmixer(), 0.4
    mixed, reference = (torch.rand(1, CLASSES, *SHAPE).softmax(1) for _ in range(2))
    known, image = unmixer_input(mixed, reference, torch.full((1, 1, *SHAPE), weight)), torch.rand(1, 1, *SHAPE)
    correction = UnmixerGraph(unmixer)(known, image)[0].numpy()
    linear, sharpness = known[0, :CLASSES].contiguous().numpy(), float(unmixer.sharpness)
    got = kernels.unmix(correction, linear, sharpness * weight)
    torch.testing.assert_close(torch.from_numpy(got), unmixer(known, image).softmax(1)[0], atol=1e-5, rtol=0)
    alone = kernels.unmix(UnmixerGraph(unmixer)(torch.zeros_like(known), image)[0].numpy(), None, 0.0)
    torch.testing.assert_close(torch.from_numpy(alone), unmixer(None, image).softmax(1)[0], atol=1e-5, rtol=0)


def test_the_head_comes_back() -> None:
    head = trained_unmixer().head.state_dict()
    back = unpack_head(pack_head(head))
    for name, value in head.items():
        torch.testing.assert_close(back[name], value, atol=0, rtol=0)
