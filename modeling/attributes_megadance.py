"""How a dance moves, in seven numbers that can be asked for: energy, speed, travel, turns, arm height, bounce, expansion.

Not in the paper, whose outlook (A.4) asks for more than genre labels. Each is measured from joints alone, frame by frame, and averaged over
the seconds around a code. What a model is asked for is a quantile of its genre in the training data: 0 is the least that dancers of
the genre did, 0.5 is usual, 1 is the most; NaN asks for nothing. `AttributeEmbedding` makes of it what is added to the music of a code.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kinematics_megadance import JOINT_INDEX

# Name and unit of each, in the order of columns.
ATTRIBUTES = {
    "energy": "m/s^2",  # acceleration of the joints about the pelvis, their mean
    "speed": "m/s",  # speed of the joints about the pelvis, their mean
    "travel": "m/s",  # speed of the pelvis across the floor, without swaying
    "turns": "degrees/s",  # how fast the hips turn about the vertical, either way
    "arm_height": "m",  # height of the wrists above the shoulders; below 0 they hang
    "bounce": "m/s",  # speed of the pelvis up and down
    "expansion": "m",  # horizontal distance of wrists and ankles from the pelvis
}
WINDOW_SECONDS = 4.0  # around a code that an attribute is averaged over
QUANTILES = 21  # in the tables of a configuration: 0, 0.05, ... 1
KNOTS = 5  # of an embedding: vectors for 0, 0.25, 0.5, 0.75 and 1, linear in between


def attribute_signals(joints: Tensor, fps: float = 30.0) -> Tensor:
    """The attributes of each frame of joints [frames, 24, 3] (metres, Y up), [frames, 7], in the units of `ATTRIBUTES`."""
    joints = joints.float()
    pelvis = joints[:, 0]
    # a sixth of a second removes the tremble of capture and decoding, a second the sway over a standing foot
    body = _smooth((joints - joints[:, :1]).flatten(1), fps / 6).view(joints.shape)
    velocity = _rate(body, fps)
    floor = _rate(_smooth(pelvis[:, [0, 2]], fps), fps)
    hips = joints[:, JOINT_INDEX["left_hip"]] - joints[:, JOINT_INDEX["right_hip"]]
    step = torch.atan2(hips[:, 2], hips[:, 0]).diff()
    step = torch.remainder(step + torch.pi, 2 * torch.pi) - torch.pi
    heading = F.pad(step.cumsum(0), (1, 0))[:, None]
    wrists = joints[:, [JOINT_INDEX["left_wrist"], JOINT_INDEX["right_wrist"]]]
    shoulders = joints[:, [JOINT_INDEX["left_shoulder"], JOINT_INDEX["right_shoulder"]]]
    ankles = joints[:, [JOINT_INDEX["left_ankle"], JOINT_INDEX["right_ankle"]]]
    ends = torch.cat((wrists, ankles), dim=1)[..., [0, 2]] - pelvis[:, None, [0, 2]]
    signals = (
        _rate(velocity, fps).norm(dim=-1).mean(1),
        velocity.norm(dim=-1).mean(1),
        floor.norm(dim=-1),
        _rate(_smooth(heading, fps), fps).abs()[:, 0].rad2deg(),
        (wrists - shoulders)[..., 1].mean(1),
        _rate(_smooth(pelvis[:, 1:2], fps / 6), fps).abs()[:, 0],
        ends.norm(dim=-1).mean(1),
    )
    return torch.stack(signals, dim=1)


def frame_attributes(joints: Tensor, fps: float = 30.0) -> Tensor:
    """`attribute_signals` averaged over `WINDOW_SECONDS` around each frame, [frames, 7]: what a code in its middle is trained with."""
    return _smooth(attribute_signals(joints, fps), WINDOW_SECONDS * fps)


def quantile_table(values: Tensor) -> list[list[float]]:
    """For each column of values [frames, attributes] its `QUANTILES` quantiles, lowest first."""
    table = torch.quantile(values.double(), torch.linspace(0, 1, QUANTILES, dtype=torch.float64), dim=0)
    return [[round(float(number), 5) for number in column] for column in table.T]


def to_quantiles(values: Tensor, table: Tensor) -> Tensor:
    """Which quantiles measured values [..., attributes] are, 0 to 1, by a table [..., attributes, QUANTILES]; beyond its ends 0 and 1."""
    last = table.shape[-1] - 1
    below = ((values[..., None] >= table).sum(-1) - 1).clamp(0, last - 1)
    low, high = (table.expand(*values.shape, -1).gather(-1, (below + more)[..., None])[..., 0] for more in (0, 1))
    share = ((values - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    return (below + share) / last


def table_of(quantiles: Mapping[str, Sequence[Sequence[float]]], genres: Sequence[str]) -> Tensor:
    """The tables of `config.attribute_quantiles` for genres, [genres, attributes, QUANTILES]; NaN for a genre that has none."""
    shape = torch.tensor(next(iter(quantiles.values()))).shape
    nothing = torch.full(shape, torch.nan)
    return torch.stack([torch.tensor(quantiles[genre]) if genre in quantiles else nothing for genre in genres])


class AttributeEmbedding(nn.Module):
    """Quantiles [..., attributes], NaN where nothing is asked -> [..., hidden], which is 0 where nothing is asked.

    Each attribute has a vector for each of `KNOTS` quantiles, and the vectors of the two that are nearest are blended.
    """

    def __init__(self, attributes: int, hidden_size: int):
        super().__init__()
        self.vectors = nn.Linear(attributes * KNOTS, hidden_size, bias=False)

    def forward(self, quantiles: Tensor) -> Tensor:
        knots = torch.arange(KNOTS, device=quantiles.device)
        shares = (1 - (quantiles[..., None].float() * (KNOTS - 1) - knots).abs()).clamp(min=0)
        return self.vectors(shares.nan_to_num(0.0).flatten(-2).to(self.vectors.weight.dtype))


def check_attributes(attributes: Tensor, items: int, codes: Sequence[int], names: Sequence[str]) -> Tensor:
    """What is asked of each code, [items, codes, attributes], of the same for all codes, [items, attributes], or of what is given for each;
    `codes` are the possible numbers of them.

    Raises:
        ValueError: the model knows no attributes, another shape, or numbers that are no quantiles.
    """
    if not names:
        raise ValueError("attributes: this model was trained without any; leave them out")
    if not isinstance(attributes, Tensor) or not attributes.is_floating_point():
        raise ValueError("attributes: give a floating point tensor of quantiles, NaN where nothing is asked")
    shape, size = tuple(attributes.shape), len(names)
    if shape not in ((items, size), *((items, number, size) for number in codes)):
        raise ValueError(
            f"attributes has shape {shape}; input_features needs ({items}, {size}) or ({items}, {codes[0]}, {size}), in the order "
            f"{', '.join(names)}"
        )
    looks = attributes.device.type == "cpu" or not torch.is_grad_enabled()  # in training on a GPU it would have to wait
    if looks and bool(((attributes < 0) | (attributes > 1)).any()):
        raise ValueError("attributes has numbers outside 0 to 1: give quantiles, 0.5 is usual, NaN asks for nothing")
    return attributes if len(shape) == 3 else attributes[:, None].expand(-1, codes[0], -1)


def _rate(x: Tensor, fps: float) -> Tensor:
    """Change per second of each frame, shaped like x; that of the last frame is repeated."""
    if len(x) < 2:
        return torch.zeros_like(x)
    change = x.diff(dim=0) * fps
    return torch.cat((change, change[-1:]))


def _smooth(x: Tensor, frames: float) -> Tensor:
    """Moving mean of x [frames, columns] over about so many frames, fewer at the ends."""
    reach = min(int(frames / 2), len(x) - 1)
    running = F.pad(x.double().cumsum(0), (0, 0, 1, 0))
    places = torch.arange(len(x), device=x.device)
    first, last = (places - reach).clamp(min=0), (places + reach + 1).clamp(max=len(x))
    return ((running[last] - running[first]) / (last - first)[:, None]).to(x.dtype)
