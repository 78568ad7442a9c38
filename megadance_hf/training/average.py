"""Exponential moving average (EMA) of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """Moving average of the weights that are trained, of this process's part of them.

    torch's `AveragedModel` keeps it, of a list of parameters instead of the model: of a frozen model with few trained weights it
    then copies only those, and a model that FSDP has sharded cannot be copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.average = AveragedModel(self._local(), multi_avg_fn=get_ema_multi_avg_fn(decay))

    def _local(self) -> nn.ParameterList:
        """The weights themselves, not copies; under FSDP the part that this process has."""
        weights = (p.to_local() if hasattr(p, "to_local") else p.data for p in self.trained)
        return nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights)

    def update(self) -> None:
        self.average.update_parameters(self._local())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this block the model has the average."""
        self.swap()
        yield
        self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights."""
        for average, weight in zip(self.average.module, self._local(), strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def save(self, path: Path) -> None:
        torch.save([average.data for average in self.average.module], path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        for average, value in zip(self.average.module, loaded, strict=True):
            average.copy_(value)
        self.average.n_averaged.fill_(1)  # else the next update would copy the weights
