"""Detectors with frozen layers, from weights that are random but look pretrained."""

import torch
import torchvision
from safetensors.torch import save_file
from torchvision.ops import FrozenBatchNorm2d

from alloop.detectors.torchvision.backbones import TinyBackbone


def random_norms(module):
    """Give every batch norm statistics and weights that change its input."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d | FrozenBatchNorm2d):
                for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                    values = torch.rand(len(norm.weight), generator=generator)
                    getattr(norm, name).copy_(low + values)


def random_weights(backbone, folder):
    """Write weights of a backbone to a file and return its name; with a file, norms are frozen."""
    path = folder / f"{backbone}.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if backbone == "tiny":
            module = TinyBackbone(32, torch.nn.BatchNorm2d)
        else:
            module = torchvision.models.get_model(backbone, weights=None)
        save_file({name: t.contiguous() for name, t in module.state_dict().items()}, path)
    return str(path)
