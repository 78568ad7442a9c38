"""A passage put into a dance: what is outside stays, its ends join, the path is led to where the dance goes on."""

import pytest
import torch
from helpers import song

from megadance_hf.metrics import toe_speeds
from megadance_hf.modeling.clean_up_megadance import find_contacts, plant_feet
from megadance_hf.modeling.joining_megadance import (
    _DETOURS,
    _TURN_SPANS,
    _plan_turn,
    close_loop,
    meet_poses,
    price_of_leading,
    put_passage,
)
from megadance_hf.modeling.kinematics_megadance import (
    BODY_PARTS,
    axis_angle_to_matrix,
    forward_kinematics,
    matrix_to_axis_angle,
    rotation_angle,
    rotation_heading,
    turn_matrix,
)
from megadance_hf.synthetic.choreographer import choreograph


def dance(number: int, turn: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip that sways and walks, from one place in one direction."""
    clip = song(number, frames=200)
    poses = torch.from_numpy(clip.poses).reshape(200, 24, 3)
    path = torch.tensor([0.0, 1.0, 0.0]) + torch.arange(200)[:, None] * torch.tensor([0.01, 0.0, 0.02])
    return poses, path @ turn_matrix(torch.tensor(turn)).T


def put(old, new, first, last, part=None, feet=True):
    """`put_passage`, of poses."""
    return put_passage(old, (axis_angle_to_matrix(new[0]), new[1]), first, last, 30.0, part, feet)


def price(old, new, first, last):
    """`price_of_leading`, of poses."""
    return price_of_leading(old, (axis_angle_to_matrix(new[0]), new[1]), first, last, 30.0)


@pytest.mark.parametrize(("first", "last"), [(64, 120), (0, 64), (120, 200), (0, 200), (80, 88)])
@pytest.mark.parametrize("part", [None, "upper", "lower"])
def test_everything_else_stays_to_the_last_bit(first, last, part):
    old, new = dance(0), dance(1, turn=2.0)
    poses, path = put(old, new, first, last, part)
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
    joined = put(old, new, 64, 120)
    steps, own, cut = (
        forward_kinematics(axis_angle_to_matrix(poses), path).diff(dim=0).norm(dim=-1).amax(-1)
        for poses, path in (joined, old, (torch.cat((old[0][:64], new[0][64:120], old[0][120:])), old[1]))
    )
    ends = [63, 64, 118, 119]
    assert cut[[63, 119]].min() > 0.3
    assert steps[ends].max() < 1.2 * own.max()


def walks(genre: str, seed: int, turn: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A dance on the floor, with steps."""
    made = choreograph(genre, 200 / 30, 96, seed=seed)
    poses, path = torch.from_numpy(made.poses).reshape(-1, 24, 3), torch.from_numpy(made.translation)
    rotations = axis_angle_to_matrix(poses)
    rotations[:, 0] = turn_matrix(torch.tensor(turn)) @ rotations[:, 0]
    return matrix_to_axis_angle(rotations), path @ turn_matrix(torch.tensor(turn)).T


def roughness(motion: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Third differences of the joints: their mean, and the largest."""
    sizes = forward_kinematics(axis_angle_to_matrix(motion[0]), motion[1]).diff(n=3, dim=0).norm(dim=-1)
    return torch.stack((sizes.mean(-1), sizes.amax(-1)), 1)


@pytest.mark.parametrize("part", [None, "upper", "lower"])
@pytest.mark.parametrize("turn", [0.0, 1.5])
def test_joins_are_no_rougher_than_the_dance(part, turn):
    """Also of dances that have nothing in common at the ends: the third differences that reach over a join are below the dances' own."""
    for seed in range(3):
        old, new = walks("sway", seed), walks("march", seed + 1, turn)
        joined = roughness(put(old, new, 64, 144, part))
        largest = torch.cat((roughness(old), roughness(new)[64:140])).amax(0)
        for end in (64, 144):
            assert (joined[end - 3 : end] <= largest).all()


def test_a_dance_is_turned_when_it_costs_least():
    """The slow twin: all turns, at all times and with all detours, one by one; the way that is left, and how fast it turns."""
    travel = torch.linspace(0, 4, 200)[:, None]  # both go straight on, and the new one turns meanwhile
    old, new = (
        (poses, path + travel * torch.tensor([0.0, 0.0, 1.0])) for poses, path in (walks("march", 0), walks("march", 1))
    )
    rotations, before = axis_angle_to_matrix(new[0]), axis_angle_to_matrix(old[0])
    rotations[:, 0] = turn_matrix(torch.linspace(0, 3, 200)) @ rotations[:, 0]
    new = (matrix_to_axis_angle(rotations), new[1])
    angle = rotation_heading(before[63, 0]) - rotation_heading(rotations[63, 0])
    path = new[1] @ turn_matrix(angle).T
    facing = rotation_heading(before[144, 0]) - rotation_heading(rotations[144, 0]) - angle
    missing = torch.atan2(facing.sin(), facing.cos())
    steps, goal = path[63:145].diff(dim=0), old[1][144] - old[1][63]
    _, weight, _ = _plan_turn(path[63:145], missing, goal + path[63], 30.0)
    prices = []
    for turned in (missing, missing - 2 * torch.pi * missing.sign()):
        for begin, end in _TURN_SPANS:
            x = ((weight - begin) / (end - begin)).clamp(0, 1)
            for detour in _DETOURS:
                curve = x if end - begin == 1 else x * x * (3 - 2 * x)
                angles = turned * curve + detour * (torch.pi * weight).sin() ** 2
                led = sum(turn_matrix(one) @ step for one, step in zip(angles, steps, strict=False))
                way = (goal - led)[[0, 2]].norm() / (81 / 30)
                prices.append(float(((angles.diff() * 30).square().mean() / 0.04 + (way / 0.05) ** 2) / 2))
    assert price(old, new, 64, 144) == pytest.approx(min(prices), rel=1e-3)
    assert min(prices) < 0.8 * prices[0], "of the first, an even turn"
    assert price(old, old, 64, 144) == pytest.approx(0, abs=1e-5)
    assert price(old, new, 0, 144) == price(old, new, 64, 200) == 0, "nothing is led"


def test_feet_of_a_led_passage_stand():
    """The slow twin: the passage without planting, whose standing feet slide with what it is led by."""
    old, new = walks("march", 0), walks("march", 1)
    new = (new[0], new[1] + torch.linspace(0, 0.5, 200)[:, None] * torch.tensor([1.0, 0.0, 0.0]))
    speeds = [
        toe_speeds(forward_kinematics(axis_angle_to_matrix(poses), path)[64:144].numpy())[0]
        for poses, path in (put(old, new, 64, 144, feet=feet) for feet in (False, True))
    ]
    assert speeds[1] < 0.5 * speeds[0]


def test_feet_are_planted_within_a_passage_only():
    poses, path = walks("march", 0)
    rotations = axis_angle_to_matrix(poses)
    slide = path + torch.linspace(0, 0.3, 200)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    contacts = find_contacts(forward_kinematics(rotations, path)[:, [10, 11]], 30.0)
    assert contacts[70:140].any()
    planted, moved = plant_feet(rotations, slide, 30.0, contacts, 64, 144)
    outside = torch.ones(200, dtype=torch.bool)
    outside[64:144] = False
    assert torch.equal(planted[outside], rotations[outside]) and torch.equal(moved[outside], slide[outside])
    toes = forward_kinematics(planted, moved)[:, [10, 11]]
    assert toes[64:144, :, 1].min() > -0.005, "no toe is below the floor"


def test_a_path_is_led_to_where_the_dance_goes_on():
    old, new = dance(0), dance(0, turn=1.0)
    _, path = put(old, new, 64, 160, feet=False)
    steps = path.diff(dim=0).norm(dim=-1)
    assert (path[160] - old[1][160]).norm() == 0 and steps.max() < 0.08, "no jump; usual steps are 0.022 m"


def test_the_middle_of_a_passage_is_the_new_dance():
    old, new = dance(0), dance(1)
    poses, _ = put(old, new, 64, 160, feet=False)
    inner, joints = slice(64 + 18, 160 - 18), list(range(1, 24))  # the pelvis is turned with the path
    turned = rotation_angle(*(axis_angle_to_matrix(each[inner][:, joints]) for each in (poses, new[0])))
    assert turned.max() < 1e-3


@pytest.mark.parametrize(("first", "count"), [(80, 1), (0, 20), (190, 10), (199, 1), (90, 30)])
def test_poses_are_met_whatever_their_heading(first, count):
    poses, held = dance(0)[0], dance(1)[0][:count]
    found = meet_poses(poses, [(first, held)], 30.0)
    reached, goal, before = (
        axis_angle_to_matrix(each) for each in (found[first : first + count], held, poses[first : first + 1])
    )
    assert rotation_angle(reached[:, 1:], goal[:, 1:]).max() < 1e-3
    turn = turn_matrix(rotation_heading(before[0, 0]) - rotation_heading(goal[0, 0]))
    assert rotation_angle(reached[:, 0], turn @ goal[:, 0]).max() < 1e-3, "as the dancer faced"
    far = torch.ones(len(poses), dtype=torch.bool)
    far[max(0, first - 18) : first + count + 18] = False
    assert torch.equal(found[far], poses[far]), "elsewhere the dance is as it was"
    turns, own = (
        rotation_angle(*(axis_angle_to_matrix(each)[part] for part in (slice(1, None), slice(-1))))
        for each in (found, poses)
    )
    assert turns.max() < own.max() + 0.12, "no jump: over 0.6 s, some hundredths a frame"


def test_poses_near_each_other_are_all_met():
    poses, held = dance(0)[0], dance(1)[0]
    found = meet_poses(poses, [(80, held[:1]), (84, held[50:60]), (95, held[90:91])], 30.0)
    for frame, goal in ((80, held[0]), (84, held[50]), (93, held[59]), (95, held[90])):
        turned = rotation_angle(*(axis_angle_to_matrix(each[1:]) for each in (found[frame], goal)))
        assert turned.max() < 1e-3


def test_a_loop_goes_on_as_it_began():
    """Frames after the last are those after the first; the slow twin is the dance as it was, which jumps."""
    poses, path = dance(0)
    closed, closed_path = close_loop(poses, path, 30.0)
    assert torch.equal(closed[-1], poses[0]) and torch.equal(closed_path[-1], path[0])
    assert torch.equal(closed[0], closed[-1])

    def seam(poses, path):
        poses, path = torch.cat((poses[-20:], poses[1:20])), torch.cat((path[-20:], path[1:20]))
        return forward_kinematics(axis_angle_to_matrix(poses), path).diff(n=2, dim=0).norm(dim=-1).max()

    assert seam(closed, closed_path) < 0.06 and seam(poses, path) > 1, "metres per frame and frame"
