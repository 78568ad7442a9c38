"""Codecs of the motion tokenizer: a body part's motion to vectors, through its quantizer, and back (paper, section 3.2).

Two architectures: `residual`, that of the released code, and `plain`, that of the paper's text. Both halve the number of frames
`num_downsamples` times.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .configuration_megadance import MegaDanceTokenizerConfig
from .quantizers_megadance import Quantizer, find_quantizer


class ResidualBlock(nn.Module):
    """x + Conv1(ReLU(dilated Conv3(ReLU(x))))."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.dilated = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.pointwise = nn.Conv1d(width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.pointwise(F.relu(self.dilated(F.relu(hidden))))


def _residual_blocks(config: MegaDanceTokenizerConfig, reverse: bool) -> nn.Sequential:
    depths = range(config.residual_depth)[:: -1 if reverse else 1]
    return nn.Sequential(*(ResidualBlock(config.hidden_size, config.residual_dilation**depth) for depth in depths))


class LinearUpsample(nn.Module):
    """Twice the frames by linear interpolation, then a convolution: no checkerboard, hence no jitter."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(F.interpolate(hidden, scale_factor=2, mode="linear", align_corners=False))


def _upsample(config: MegaDanceTokenizerConfig, inputs: int, outputs: int) -> nn.Module:
    if config.upsampling == "linear":
        return LinearUpsample(inputs, outputs)
    return nn.ConvTranspose1d(inputs, outputs, 4, stride=2, padding=1)


class ResidualEncoder(nn.Module):
    """Released arrangement: strided convolutions, each followed by dilated residual blocks."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        width = config.hidden_size
        inputs = [size] + [width] * (config.num_downsamples - 1)
        self.down = nn.ModuleList(nn.Conv1d(n, width, 4, stride=2, padding=1) for n in inputs)
        self.blocks = nn.ModuleList(_residual_blocks(config, reverse=False) for _ in inputs)
        self.out = nn.Conv1d(width, config.code_size, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:  # [batch, size, frames] -> [batch, code_size, frames / 8]
        for down, blocks in zip(self.down, self.blocks, strict=True):
            hidden = blocks(down(hidden))
        return self.out(hidden)


class ResidualDecoder(nn.Module):
    """Mirror image of `ResidualEncoder`."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        width = config.hidden_size
        outputs = [width] * (config.num_downsamples - 1) + [config.code_size]
        self.into = nn.Conv1d(config.code_size, width, 3, padding=1)
        self.blocks = nn.ModuleList(_residual_blocks(config, reverse=True) for _ in outputs)
        self.up = nn.ModuleList(_upsample(config, width, n) for n in outputs)
        self.out = nn.Conv1d(config.code_size, size, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:  # [batch, code_size, steps] -> [batch, size, 8 * steps]
        hidden = self.into(hidden)
        for blocks, up in zip(self.blocks, self.up, strict=True):
            hidden = up(blocks(hidden))
        return self.out(hidden)


class PlainEncoder(nn.Module):
    """The paper's text (section 3.2): a strided CNN (three layers) and a two-layer MLP."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        inputs = [size] + [config.hidden_size] * (config.num_downsamples - 1)
        self.down = nn.ModuleList(nn.Conv1d(n, config.hidden_size, 4, stride=2, padding=1) for n in inputs)
        self.mlp = nn.Sequential(
            nn.Conv1d(config.hidden_size, config.code_size, 1),
            nn.ReLU(),
            nn.Conv1d(config.code_size, config.code_size, 1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        for down in self.down:
            hidden = F.relu(down(hidden))
        return self.mlp(hidden)


class PlainDecoder(nn.Module):
    """The paper's text: a two-layer MLP and a transposed CNN (three layers)."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        outputs = [config.hidden_size] * (config.num_downsamples - 1) + [size]
        self.mlp = nn.Sequential(
            nn.Conv1d(config.code_size, config.hidden_size, 1),
            nn.ReLU(),
            nn.Conv1d(config.hidden_size, config.hidden_size, 1),
        )
        self.up = nn.ModuleList(_upsample(config, config.hidden_size, n) for n in outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.mlp(hidden)
        for up in self.up:
            hidden = up(F.relu(hidden))
        return hidden


class BodyPartCodec(nn.Module):
    """Encoder, quantizer and decoder of one body part, whose motion has `size` columns; `extra` ones are decoded beside it."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int, extra: int = 0):
        super().__init__()
        residual = config.codec == "residual"
        self.encoder = (ResidualEncoder if residual else PlainEncoder)(config, size)
        self.quantizer: Quantizer = find_quantizer(config.quantizer)(config)
        self.decoder = (ResidualDecoder if residual else PlainDecoder)(config, size + extra)

    def hidden(self, part: Tensor) -> Tensor:
        """Normalised motion (batch, frames, size) -> vectors before the quantizer (batch, frames / 8, code_size)."""
        return self.encoder(part.transpose(1, 2)).transpose(1, 2)

    def encode(self, part: Tensor) -> Tensor:
        """Normalised motion (batch, frames, size) -> codes (batch, frames / 8)."""
        return self.quantizer.encode(self.hidden(part))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, steps) -> normalised motion (batch, 8 * steps, size + extra)."""
        return self._decode(self.quantizer.decode(codes))

    def _decode(self, quantized: Tensor) -> Tensor:
        return self.decoder(quantized.transpose(1, 2)).transpose(1, 2)

    def forward(self, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised motion -> its reconstruction with the extra columns; codes (batch, frames / 8); the quantizer's loss."""
        quantized, codes, loss = self.quantizer(self.hidden(part))
        return self._decode(quantized), codes, loss


def decoder_reach(config: MegaDanceTokenizerConfig) -> int:
    """How many codes before and after its own a decoded frame can depend on, at most."""
    residual, linear = config.codec == "residual", config.upsampling == "linear"
    dilations = sum(config.residual_dilation**level for level in range(config.residual_depth)) if residual else 0
    reach, rate = float(residual), 1  # rate: frames per code, from layer to layer
    for _ in range(config.num_downsamples):
        reach += (dilations + 1) / rate + linear / (2 * rate)
        rate *= 2
    reach += residual / rate
    if config.contacts:  # a frame is planted by its foot steps and its neighbours', see `plant_root`
        reach += 2 / rate
    return math.ceil(reach)
