"""Networks for tests of engines."""

import torch
from torch import nn

from mousecmr_data.models.unet3plus import UNet3Plus


def make_random_network(channels: tuple[int, ...], reduce: int = 1, context: int = 0) -> UNet3Plus:
    """Make a network with random weights, and batch statistics other than the initial ones."""
    torch.manual_seed(0)
    network = UNet3Plus(channels, reduce=reduce, context=context).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, 0.0, 0.2)
    return network


def widen_network(network: UNet3Plus, times: int) -> UNet3Plus:
    """Make the same function with ``times`` as many channels (Net2Net: Chen et al., 2016).

    Each channel is repeated ``times`` times; its readers divide their weight among the copies, unevenly.
    """
    channels = [c * times for c in network.channels]
    settings = {"reduce": network.reduce, "context": network.context, "scaling": network.scaling}
    wide = UNet3Plus(channels, network.classes, **settings).eval()
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for name, target in wide.state_dict().items():
        value = state[name]
        if value.ndim == 4 and target.shape[1] != value.shape[1]:  # repeated in place, which fits concatenated maps
            share = torch.rand(value.shape[1], times, generator=generator) + 0.5
            value = value.repeat_interleave(times, 1) * (share / share.sum(1, keepdim=True)).reshape(-1)[:, None, None]
        if value.ndim and target.shape[0] != value.shape[0]:
            value = value.repeat_interleave(times, 0)
        state[name] = value
    wide.load_state_dict(state)
    return wide
