"""Where a module computes, once a `device_map` has spread the model over several devices (accelerate)."""

import torch
from torch import nn


def is_spread(model: nn.Module) -> bool:
    """Whether a `device_map` with more than one device was given."""
    return len(set(getattr(model, "hf_device_map", {}).values())) > 1


def computing_device(module: nn.Module) -> torch.device:
    """The device of its weights, or that to which accelerate takes them, and what the module is called with, for each call."""
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
        for weight in part.parameters(recurse=False):
            return weight.device
    raise ValueError(f"{type(module).__name__} has no weights")


def layer_devices(layers: nn.ModuleList) -> list[torch.device]:
    """The device of each layer.

    Raises:
        ValueError: a layer's parts are on several devices; they share hidden states and a cache.
    """
    devices = []
    for index, layer in enumerate(layers):
        parts = [part for _, part in layer.named_modules() if any(True for _ in part.parameters(recurse=False))]
        found = {computing_device(part) for part in parts}
        if len(found) > 1:
            names = ", ".join(sorted(map(str, found)))
            raise ValueError(
                f"device_map: layer {index} is on {names}; give each layer one device, as 'auto' and 'balanced' do"
            )
        devices.append(computing_device(layer))
    return devices
