"""A passage put into a dance: what is outside stays, its ends join, the path is led to where the dance goes on."""

import pytest
import torch
from helpers import song

from megadance_hf.modeling.joining_megadance import put_passage
from megadance_hf.modeling.kinematics_megadance import (
    BODY_PARTS,
    axis_angle_to_matrix,
    forward_kinematics,
    rotation_angle,
    turn_matrix,
)


def dance(number: int, turn: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip that sways and walks, from one place in one direction."""
    clip = song(number, frames=200)
    poses = torch.from_numpy(clip.poses).reshape(200, 24, 3)
    path = torch.tensor([0.0, 1.0, 0.0]) + torch.arange(200)[:, None] * torch.tensor([0.01, 0.0, 0.02])
    return poses, path @ turn_matrix(torch.tensor(turn)).T


@pytest.mark.parametrize(("first", "last"), [(64, 120), (0, 64), (120, 200), (0, 200), (80, 88)])
@pytest.mark.parametrize("part", [None, "upper", "lower"])
def test_everything_else_stays_to_the_last_bit(first, last, part):
    old, new = dance(0), dance(1, turn=2.0)
    poses, path = put_passage(old, new, first, last, 30.0, part)
    others = torch.ones(200, 24, dtype=torch.bool)
    for name in BODY_PARTS if part is None else [part]:
        others[first:last, list(BODY_PARTS[name])] = False
    assert torch.equal(poses[others], old[0][others])
    kept = others[:, 0]  # the path belongs to the pelvis
    assert torch.equal(path[kept], old[1][kept])
    assert not torch.equal(poses[first:last], old[0][first:last])


def test_the_ends_join():
    """The slow twin: without fading and leading, the passage cut in jumps by decimetres."""
    old, new = dance(0), dance(1, turn=2.0)
    joined = put_passage(old, new, 64, 120, 30.0)
    steps, own, cut = (
        forward_kinematics(axis_angle_to_matrix(poses), path).diff(dim=0).norm(dim=-1).amax(-1)
        for poses, path in (joined, old, (torch.cat((old[0][:64], new[0][64:120], old[0][120:])), old[1]))
    )
    ends = [63, 64, 118, 119]
    assert cut[[63, 119]].min() > 0.3
    assert steps[ends].max() < 1.2 * own.max()


def test_a_path_is_led_to_where_the_dance_goes_on():
    old, new = dance(0), dance(0, turn=1.0)
    _, path = put_passage(old, new, 64, 160, 30.0, feet=False)
    steps = path.diff(dim=0).norm(dim=-1)
    assert (path[160] - old[1][160]).norm() == 0 and steps.max() < 0.08, "no jump; usual steps are 0.022 m"


def test_the_middle_of_a_passage_is_the_new_dance():
    old, new = dance(0), dance(1)
    poses, _ = put_passage(old, new, 64, 160, 30.0, feet=False)
    inner, joints = slice(64 + 18, 160 - 18), list(range(1, 24))  # the pelvis is turned with the path
    turned = rotation_angle(*(axis_angle_to_matrix(each[inner][:, joints]) for each in (poses, new[0])))
    assert turned.max() < 1e-3
