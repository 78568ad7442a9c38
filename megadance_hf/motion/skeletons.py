"""SMPL poses out of other skeletons: positions of joints, and `.bvh` files with bones of known names.

Bones are found by name (`match_bones`), the body is brought to our size by the length of its legs, and the path goes where its
hips go. Where the rest pose of a `.bvh` stands with arms and legs like a person's, the turns of its bones are taken over, told from
our rest pose; otherwise, and for mere positions, turns are fitted to the places of the joints (`from_positions`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations, product

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import (
    BLOCK,
    JOINT_NAMES,
    NUM_JOINTS,
    PARENTS,
    REST_OFFSETS,
    matrix_to_axis_angle,
)

from .humanoid import straightening, t_pose_offsets
from .layouts import LOOKED_AT, MAX_FRAMES, UNSEEN, LayoutError, seen_up, spoken, turn_to_y_up

EXACT = 1e-3  # metres: what is so near is our own skeleton
MAX_BONES = 5000
_INDEX = {name: index for index, name in enumerate(JOINT_NAMES)}
_REST = np.array(REST_OFFSETS)
_SIDES = ("left", "right")


@dataclass
class Fit:
    """SMPL poses (T, 24, 3) and the pelvis' path (T, 3), Y up, metres; `error` is the mean distance from the given joints.

    `exact`: it was our own skeleton, Y up; `scale`: from the file's units to metres on our body.
    """

    poses: np.ndarray
    path: np.ndarray
    error: float
    scale: float
    exact: bool = False
    notes: list[str] = field(default_factory=list)


# --- names of bones ------------------------------------------------------------------------------------------------------

# What MotionBuilder, Mixamo, CMU, SMPL, Unreal, 3ds Max, Poser, VRM, Unity, Rigify and Bandai Namco call the joints, without side;
# the first that is there is taken.
_SIDED = {
    "hip": ("upleg", "upperleg", "thigh", "legupper", "femur", "thighbend", "hip", "hipjoint"),
    "knee": ("lowerleg", "lowleg", "leg", "shin", "calf", "leglower", "tibia", "knee"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toe", "toes", "ball", "foot"),
    "collar": ("collar", "clavicle", "clav", "collarbone", "thorax", "scapula", "inshoulder", "shoulder"),
    "shoulder": ("upperarm", "uparm", "armupper", "arm", "shldr", "shldrbend", "humerus", "shoulder"),
    "elbow": ("forearm", "lowerarm", "lowarm", "armlower", "elbow", "radius", "forearmbend"),
    "wrist": ("wrist", "hand"),
    "hand": ("fingerbase", "hand"),
}
_MIDDLE = {
    "pelvis": ("pelvis", "hips", "hip"),
    "neck": ("neck", "lowerneck", "necklower", "necktwist"),
    "head": ("head",),
}
_SPINE = ("lowerback", "spine", "abdomen", "waist", "belly", "torso", "chest", "upperchest", "thorax")
# What comes before names and says nothing: rigs, prefixes, the "average" bodies of SMPL's own FBX files.
_EMPTY = {
    "mixamorig",
    "bip",
    "j",
    "c",
    "m",
    "f",
    "avg",
    "def",
    "org",
    "jnt",
    "bone",
    "character",
    "cc",
    "base",
    "sk",
    "rig",
}
_NEEDED = [f"{side}_{part}" for side in _SIDES for part in ("hip", "knee", "ankle", "shoulder", "elbow")]


def _read_name(name: str) -> tuple[str, str, int]:
    """A bone's side ("left", "right" or ""), what it is in small letters, and its number."""
    tokens = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name.rsplit(":", 1)[-1])
    side, parts, number = "", [], 0
    for place, token in enumerate(token.lower() for token in tokens):
        if token in ("left", "l", "lft", "right", "r", "rgt"):
            side = _SIDES[token[0] == "r"]
        elif token.isdigit():
            number = int(token[:6]) if place == len(tokens) - 1 and parts else number
        elif token == "joint":
            parts += ["joint"] if parts[-1:] == ["hip"] else []  # CMU's, a bone before the thigh
        elif token not in _EMPTY or (parts and token == "base"):
            parts.append(token)
    part = "".join(parts)
    known = {other for names in _SIDED.values() for other in names}
    if not side and part not in known:  # leftupleg, lhip
        for which in _SIDES:
            for prefix in (which, which[0]):
                if part.startswith(prefix) and part.removeprefix(prefix) in known:
                    return which, part.removeprefix(prefix), number
    return side, part, number


def match_bones(names: Sequence[str], parents: Sequence[int] | None = None) -> dict[str, int]:
    """Which bone is which SMPL joint, by names, and for the spine by the hierarchy where there is one.

    Raises:
        LayoutError: legs, arms or head are missing.
    """
    read = [_read_name(name) for name in names]
    by_name: dict[tuple[str, str], int] = {}
    for index, (side, part, _) in reversed(list(enumerate(read))):
        by_name[side, part] = index
    found: dict[str, int] = {}
    for side in _SIDES:
        for joint, known in _SIDED.items():
            taken = {found.get(f"{side}_{other}") for other in _SIDED}
            index = next((by_name[side, part] for part in known if (side, part) in by_name), None)
            if joint == "collar" and index is not None and read[index][1] == "shoulder":
                # the collar bone only where something else is the upper arm
                arm = any((side, part) in by_name for part in _SIDED["shoulder"][:-1])
                index = index if arm else None
            if index is not None and index not in taken:
                found[f"{side}_{joint}"] = index
    for joint, known in _MIDDLE.items():
        index = next((by_name["", part] for part in known if ("", part) in by_name), None)
        if index is not None:
            found[joint] = index
    if missing := [joint for joint in _NEEDED if joint not in found]:
        missing += [] if "head" in found or "neck" in found else ["head"]
        shown = ", ".join(str(name)[:30] for name in names[:12]) + (", ..." if len(names) > 12 else "")
        raise LayoutError(
            f"no bone is called like {', '.join(missing[:5])}; here is {shown}: name the bones as SMPL, Mixamo or "
            "MotionBuilder do (Hips, LeftUpLeg, LeftLeg, LeftFoot, LeftArm, LeftForeArm, Head, ...)"
        )
    if "head" not in found and "neck" not in found:
        raise LayoutError("no bone is called like head or neck: name it Head")
    if parents is None:
        spine = [index for index, (side, part, _) in enumerate(read) if not side and part in _SPINE]
        spine.sort(key=lambda index: (min(_SPINE.index(read[index][1]), 5), read[index][2], index))
    else:
        above = _ancestors(found["left_hip"], parents)
        common = [index for index in above if index in set(_ancestors(found["right_hip"], parents))]
        if "pelvis" not in found and common:
            found["pelvis"] = common[0]
        upper = _ancestors(found.get("neck", found.get("head", -1)), parents)
        stop = set(common) | {found.get("pelvis", -1)}
        spine = [index for index in upper if index not in stop][::-1]
        spine = [index for index in spine if index not in found.values() and "neck" not in read[index][1]]
    if spine:
        found["spine1"], found["spine3"] = spine[0], spine[-1]
        if len(spine) > 2:
            found["spine2"] = spine[len(spine) // 2]
        if len(spine) == 1:
            del found["spine1"]
    return found


def _ancestors(bone: int, parents: Sequence[int]) -> list[int]:
    """The bones above one, the nearest first."""
    above: list[int] = []
    while bone >= 0 and (bone := parents[bone]) >= 0:
        above.append(bone)
    return above


# --- positions -------------------------------------------------------------------------------------------------------------


def keeps_lengths(positions: np.ndarray) -> bool:
    """Whether (T, 22 or 24, 3) are positions of SMPL's joints: its long bones keep their lengths to within 5 percent."""
    bones = [(1, 4), (4, 7), (2, 5), (5, 8), (16, 18), (18, 20), (17, 19), (19, 21)]
    lengths = np.stack([np.linalg.norm(positions[:, a] - positions[:, b], axis=-1) for a, b in bones], 1)
    middle = np.median(lengths, axis=0)
    if middle.min() <= 0 or middle.max() > 4 * middle.min():
        return False
    return bool((np.percentile(np.abs(lengths - middle), 90, axis=0) < 0.05 * middle).all()) and len(positions) > 1


def are_ours(positions: np.ndarray) -> bool:
    """Whether positions (T, 24, 3) are of our own skeleton, in metres: all its bones have their lengths."""
    bones = positions[:, 1:] - positions[:, list(PARENTS[1:])]
    return bool(np.abs(np.linalg.norm(bones, axis=-1) - np.linalg.norm(_REST[1:], axis=-1)).max() < EXACT)


def from_positions(joints: Mapping[str, np.ndarray], up: str | None = None) -> Fit:
    """Fits SMPL poses to positions (T, 3) of joints by name, in any unit.

    Turns about a bone's own axis don't show in positions: thighs and upper arms are turned so that knees and elbows bend as they
    can, other bones as little as possible.

    Raises:
        LayoutError: joints are missing, or which way is up cannot be seen.
    """
    names = list(joints)
    matched = match_bones(names)
    found = {joint: np.asarray(joints[names[index]], np.float64) for joint, index in matched.items()}
    return _fit_positions(found, up, default=None)


def _fit_positions(found: dict[str, np.ndarray], up: str | None, default: str | None) -> Fit:
    scale = _scale(found)
    notes = [] if scale == 1 else [_scale_note(scale)]
    turn, turned = _upright({joint: scale * at for joint, at in found.items()}, up, default)
    fit = _Fitting(scale, [*notes, *turned])
    for start in range(0, len(found["left_hip"]), BLOCK):
        some = {joint: scale * at[start : start + BLOCK] @ turn.T for joint, at in found.items()}
        fit.add(_turns_of(some), some)
    return fit.done("turns about the bones' own axes are estimated")


def _turns_of(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """World rotations (24, T, 3, 3) that bring our bones to positions (T, 3) of joints."""
    frames = len(found["left_hip"])
    world = np.tile(np.eye(3), (NUM_JOINTS, frames, 1, 1))
    for joint, name in enumerate(JOINT_NAMES):
        above = world[PARENTS[joint]] if joint else world[joint]
        world[joint] = above
        targets = _targets(joint, found)
        if not targets or (name not in found and (name != "pelvis" or len(targets) < 2)):
            continue
        start = found.get(name, (found["left_hip"] + found["right_hip"]) / 2)
        rest = np.array([vector for _, vector in targets])
        seen = np.stack([found[target] - start for target, _ in targets], axis=1)
        if len(targets) > 1:
            world[joint] = _best_turn(rest, seen)
        else:
            world[joint] = _shortest_turns(above @ rest[0], seen[:, 0]) @ above
            hinge = _hinge(name, found)
            if hinge is not None:
                world[joint] = _twisted(world[joint], seen[:, 0], *hinge)
    return world


def _targets(joint: int, found: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """For each bone below a joint the next joint that is there, and where it is at rest."""
    targets = []
    for child in (index for index, parent in enumerate(PARENTS) if parent == joint):
        below, vector = child, _REST[child].copy()
        while JOINT_NAMES[below] not in found:
            further = [index for index, parent in enumerate(PARENTS) if parent == below]
            if not further:
                break
            below = further[0]
            vector += _REST[below]
        else:
            targets.append((JOINT_NAMES[below], vector))
    return targets


def _hinge(name: str, found: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The axis at rest about which the next joint bends, and the one about which it is seen to bend, longer the more it does."""
    side, _, part = name.partition("_")
    chain = {"hip": ("hip", "knee", "ankle"), "shoulder": ("shoulder", "elbow", "wrist")}.get(part)
    if chain is None or any(f"{side}_{link}" not in found for link in chain):
        return None
    first, middle, last = (found[f"{side}_{link}"] for link in chain)
    upper, lower = _unit(middle - first), _unit(last - middle)
    axis = np.array([1.0, 0, 0]) if part == "hip" else np.array([0, -1.0 if side == "left" else 1.0, 0])
    return axis, np.cross(upper, lower)


def _twisted(world: np.ndarray, along: np.ndarray, rest: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """World turns (T, 3, 3), turned further about the bone so that the axis `rest` comes to `seen` as far as that is marked."""
    along = _unit(along)
    now = world @ rest
    # A straight limb stays as it is: its bend is noise. Weights by the turns of real dances that are fitted best.
    wanted = seen * np.linalg.norm(seen, axis=-1, keepdims=True) + 0.5 * now
    flat = [vector - (vector * along).sum(-1, keepdims=True) * along for vector in (now, wanted)]
    one, other = map(_unit, flat)
    angle = np.arctan2((np.cross(one, other) * along).sum(-1), (one * other).sum(-1))
    return Rotation.from_rotvec(angle[:, None] * along).as_matrix() @ world


# --- BVH -------------------------------------------------------------------------------------------------------------------


@dataclass
class Bvh:
    """A parsed file: bones with parents (before their children), offsets (J, 3), channels and their values (T, channels)."""

    names: list[str]
    parents: list[int]
    offsets: np.ndarray
    channels: list[list[str]]
    values: np.ndarray
    seconds: float

    def world(self, wanted: Iterable[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """World rotations (T, 3, 3) and positions (T, 3) of some bones, and of those above them, in the file's own units.

        Channels are applied in the order in which they are written. Positions are told from the parent, in place of the offset.
        """
        frames = len(self.values)
        needed = {bone for each in wanted for bone in (each, *_ancestors(each, self.parents))}
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        first = np.cumsum([0, *map(len, self.channels)])
        for bone, parent in enumerate(self.parents):
            if bone not in needed:
                continue
            place, turn = np.tile(self.offsets[bone], (frames, 1)), np.tile(np.eye(3), (frames, 1, 1))
            for channel, values in zip(self.channels[bone], self.values[:, first[bone] :].T, strict=False):
                axis = "XYZ".index(channel[0])
                if channel.endswith("position"):
                    place[:, axis] = values
                else:
                    turn = turn @ _about(axis, np.radians(values))
            if parent >= 0:
                above, start = found[parent]
                place, turn = start + np.einsum("tab,tb->ta", above, place), above @ turn
            found[bone] = turn, place
        return found


def _about(axis: int, angles: np.ndarray) -> np.ndarray:
    """Turns (T, 3, 3) about x, y or z by angles (T,) in radians."""
    turns = np.tile(np.eye(3), (len(angles), 1, 1))
    one, other = (axis + 1) % 3, (axis + 2) % 3
    turns[:, one, one] = turns[:, other, other] = np.cos(angles)
    turns[:, other, one] = np.sin(angles)
    turns[:, one, other] = -turns[:, other, one]
    return turns


def parse_bvh(text: str) -> Bvh:
    """Reads a Biovision hierarchy with any order and number of channels.

    Raises:
        LayoutError: it is none, it is cut off, or it holds something else than numbers.
    """
    head, found, body = text.partition("MOTION")
    if not found or "HIERARCHY" not in head[:1000].upper():
        raise LayoutError("it is no BVH (HIERARCHY, then MOTION): export it again")
    names, parents, offsets, channels = _hierarchy(head)
    match = re.match(r"\s*Frames\s*:?\s*(\d+)\s+Frame\s*Time\s*:?\s*(\S+)", body, re.IGNORECASE)
    if match is None:
        raise LayoutError("after MOTION come no Frames: and Frame Time: lines: export it again")
    try:
        seconds = float(match[2])
    except ValueError:
        raise LayoutError(f"Frame Time is {match[2][:40]!r}: give the seconds of a frame") from None
    values = _values(body[match.end() :])
    count, width = int(match[1][:12]), sum(map(len, channels))
    if not width or not count or values.size != count * width:
        rows = f"{values.size / width:.6g}" if width else "none"
        raise LayoutError(
            f"it says Frames: {match[1][:12]} of {width} numbers, but has {rows}: it is cut off, or damaged"
        )
    values = values.reshape(count, width)
    if not np.isfinite(values).all():
        raise LayoutError("it has NaN or infinite numbers: repair or cut those frames")
    if (most := np.abs(values).max()) > 1e6:
        raise LayoutError(f"it has {most:.3g} among its degrees and positions: the limit is 1e6")
    return Bvh(names, parents, offsets, channels, values, _exact_seconds(match[2], seconds))


def _hierarchy(head: str) -> tuple[list[str], list[int], np.ndarray, list[list[str]]]:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    stack: list[int] = []  # -1: an end site
    opened = -1
    try:
        for line in head.replace("{", "\n{\n").replace("}", "\n}\n").splitlines():
            words = line.split()
            word = words[0].upper() if words else ""
            if word in ("ROOT", "JOINT"):
                if len(names) >= MAX_BONES:
                    raise LayoutError(f"it has more than {MAX_BONES} bones")
                opened = len(names)
                names.append(" ".join(words[1:]))
                parents.append(stack[-1] if stack else -1)
                offsets.append([0.0, 0.0, 0.0])
                channels.append([])
            elif word == "END":
                opened = -1
            elif word == "{":
                stack.append(opened)
            elif word == "}":
                stack.pop()
            elif word == "OFFSET" and stack and stack[-1] >= 0:
                x, y, z = map(float, words[1:4])
                offsets[stack[-1]] = [x, y, z]
            elif word == "CHANNELS" and stack and stack[-1] >= 0:
                kinds = [kind.capitalize() for kind in words[2:]]
                known = len(kinds) == int(words[1]) and all(
                    kind[0] in "XYZ" and kind[1:] in ("position", "rotation") for kind in kinds
                )
                if not known:
                    raise LayoutError(f"{' '.join(words)[:80]!r} is not understood: X, Y, Z with position or rotation")
                channels[stack[-1]] = kinds
    except (ValueError, IndexError) as error:
        raise LayoutError(f"its hierarchy is damaged ({error}): export it again") from None
    if not names or stack:
        raise LayoutError("its hierarchy is damaged (braces that don't match): export it again")
    array = np.array(offsets)
    if not np.isfinite(array).all() or np.abs(array).max() > 1e6:
        raise LayoutError("its offsets are no lengths of bones: export it again")
    return names, parents, array, channels


def _values(text: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return np.fromstring(text.replace(",", "."), sep=" ") if text.strip() else np.zeros(0)
        except (DeprecationWarning, ValueError):
            raise LayoutError("among its frames is something else than numbers: it is damaged") from None


def _exact_seconds(text: str, seconds: float) -> float:
    """1 / N where the printed digits of a frame time mean that: .0333 is a thirtieth."""
    if not 1e-4 < seconds < 1e4:
        return seconds
    rate = max(1, round(1 / seconds))
    digits = len(text.partition(".")[2]) if "e" not in text.lower() else 12
    return 1 / rate if abs(1 / rate - seconds) <= 0.6 * 10.0**-digits else seconds


def from_bvh(bvh: Bvh, up: str | None = None) -> Fit:
    """SMPL poses of the figure in a `.bvh`.

    Raises:
        LayoutError: its bones have no known names.
    """
    matched = match_bones(bvh.names, bvh.parents)
    if len(bvh.values) > MAX_FRAMES:
        raise LayoutError(f"it has {len(bvh.values)} frames, the limit is {MAX_FRAMES}: cut it into pieces")
    standing = dict(zip(matched, _rest_positions(bvh)[list(matched.values())], strict=True))
    scale = _scale({joint: at[None] for joint, at in standing.items()})
    if (exact := _ours(bvh, matched, scale)) is None:
        correction = _corrections(standing, scale)
    else:
        correction = exact
    notes = [] if exact is not None or scale == 1 else [_scale_note(scale)]
    if bvh.parents.count(-1) > 1:
        notes.append(f"it has {bvh.parents.count(-1)} roots: the first bones with known names are taken")
    turn = np.eye(3)
    if exact is None or up is not None:
        few = replace(bvh, values=bvh.values[:: -(-len(bvh.values) // LOOKED_AT)]).world(matched.values())
        turn, turned = _upright({joint: scale * few[index][1] for joint, index in matched.items()}, up, "y")
        notes += turned
    fit = _Fitting(scale, notes)
    for start in range(0, len(bvh.values), BLOCK):
        moving = replace(bvh, values=bvh.values[start : start + BLOCK]).world(matched.values())
        found = {joint: scale * moving[index][1] @ turn.T for joint, index in matched.items()}
        if correction is None:
            fit.add(_turns_of(found), found)
            continue
        world = np.tile(np.eye(3), (NUM_JOINTS, len(found["left_hip"]), 1, 1))
        for joint, name in enumerate(JOINT_NAMES):
            if name in matched:
                world[joint] = turn @ moving[matched[name]][0] @ correction[joint]
            elif joint:
                world[joint] = world[PARENTS[joint]]
        fit.add(world, found)
    if exact is not None:
        return fit.done(None, exact=up is None)
    return fit.done("" if correction is not None else "turns about the bones' own axes are estimated")


def _rest_positions(bvh: Bvh) -> np.ndarray:
    rest = np.zeros((len(bvh.names), 3))
    for bone, parent in enumerate(bvh.parents):
        if parent >= 0:
            rest[bone] = rest[parent] + bvh.offsets[bone]
    return rest


def _ours(bvh: Bvh, matched: Mapping[str, int], scale: float) -> np.ndarray | None:
    """From our rest pose to that of the file, (24, 3, 3), where the file is one that `save_bvh` wrote; else None."""
    if len(bvh.names) != len(matched):
        return None
    for offsets, turns in ((_REST, np.tile(np.eye(3), (NUM_JOINTS, 1, 1))), (t_pose_offsets(), straightening())):
        errors = [
            np.abs(scale * bvh.offsets[index] - offsets[_INDEX[joint]]).max()
            for joint, index in matched.items()
            if joint != "pelvis"
        ]
        if max(errors) < 1e-4 and len(errors) >= NUM_JOINTS - 3:
            return turns
    return None


def _corrections(standing: Mapping[str, np.ndarray], scale: float) -> np.ndarray | None:
    """From our rest pose to that of a file, (24, 3, 3); None where that is no standing figure.

    The whole body faces another way, perhaps; then arms and legs may hang or stand otherwise, and turn to where the file has them.
    """
    best = None
    for offsets, turns in ((_REST, np.tile(np.eye(3), (NUM_JOINTS, 1, 1))), (t_pose_offsets(), straightening())):
        ours = np.zeros((NUM_JOINTS, 3))
        for joint in range(1, NUM_JOINTS):
            ours[joint] = ours[PARENTS[joint]] + offsets[joint]
        names = [name for name in standing if name not in ("left_foot", "right_foot")]
        middle = [
            (at["left_hip"] + at["right_hip"]) / 2 for at in (dict(zip(JOINT_NAMES, ours, strict=True)), standing)
        ]
        whole = _best_turn(
            np.stack([ours[_INDEX[name]] - middle[0] for name in names]),
            np.stack([scale * (standing[name] - middle[1]) for name in names])[None],
        )[0]
        whole = _square(whole)
        correction, angles = whole @ turns, []
        for side in _SIDES:
            for joint, below in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
                if f"{side}_{below}" not in standing:
                    continue
                index, child = _INDEX[f"{side}_{joint}"], _INDEX[f"{side}_{below}"]
                here = _unit(whole @ offsets[child])
                there = _unit(standing[f"{side}_{below}"] - standing[f"{side}_{joint}"])
                angles.append(np.degrees(np.arccos(np.clip(here @ there, -1, 1))))
                if angles[-1] > (100 if joint in ("shoulder", "elbow") else 45):
                    angles[-1] = 1000.0
                    continue
                straight = _shortest_turns(here[None], there[None])[0]
                correction[index] = straight @ whole @ turns[index]
                if joint == "elbow":
                    correction[child] = straight @ whole  # a hand at rest is in line with its arm
        back = standing.get("neck", standing.get("head")) - middle[1]
        lean = np.degrees(np.arccos(np.clip(_unit(back) @ whole[:, 1], -1, 1)))
        total = sum(angles) + (1000.0 if lean > 40 else 0.0)
        if total < 1000 and (best is None or total < best[0]):
            best = (total, correction)
    return None if best is None else best[1]


def _square(turn: np.ndarray) -> np.ndarray:
    """The turn by right angles that is nearest, where it is near: bodies of other proportions only seem to lean."""
    nearest = max(_RIGHT_ANGLES, key=lambda other: np.trace(other.T @ turn))
    angle = np.degrees(np.arccos(np.clip((np.trace(nearest.T @ turn) - 1) / 2, -1, 1)))
    return nearest if angle < 20 else turn


def _right_angles() -> list[np.ndarray]:
    turns = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        matrix = np.zeros((3, 3))
        matrix[range(3), order] = signs
        if np.linalg.det(matrix) > 0:
            turns.append(matrix)
    return turns


_RIGHT_ANGLES = _right_angles()


# --- common ----------------------------------------------------------------------------------------------------------------


def _scale(found: Mapping[str, np.ndarray]) -> float:
    """From a file's units to metres on our body: the length of our legs by that of theirs."""
    lengths = []
    for side in _SIDES:
        for joint, below in (("hip", "knee"), ("knee", "ankle")):
            one, other = found[f"{side}_{joint}"], found[f"{side}_{below}"]
            lengths.append(float(np.median(np.linalg.norm(one - other, axis=-1))))
    ours = sum(
        float(np.linalg.norm(_REST[_INDEX[f"{side}_{below}"]])) for side in _SIDES for below in ("knee", "ankle")
    )
    if not sum(lengths) > 1e-9 or min(lengths) < 0.05 * max(lengths):
        raise LayoutError("its legs have no length: is it a motion of a figure?")
    scale = ours / sum(lengths)
    return next((unit for unit in (1.0, 0.01, 0.001) if abs(scale / unit - 1) < 1e-3), scale)


def _scale_note(scale: float) -> str:
    return f"brought to metres and the size of our skeleton: 1 unit is {scale:.5g} m"


def _upright(found: Mapping[str, np.ndarray], up: str | None, default: str | None) -> tuple[np.ndarray, list[str]]:
    """The turn (3, 3) that brings positions in metres to Y up, and notes of it."""
    head = found.get("head", found.get("neck"))
    joints = np.stack([head, found["left_ankle"], found["right_ankle"]], axis=1)
    looked = seen_up(joints, 0, [1, 2]) if up is None else up
    notes = []
    if looked is None:
        if default is None:
            raise LayoutError(UNSEEN)
        looked = default
        notes.append(f"{default.upper()} up, as usual; the motion itself does not show it")
    if looked != "y":
        why = "as told" if up is not None else "that is where the head is above the feet"
        notes.append(f"turned from {spoken(looked)} up to Y up: {why}")
    return turn_to_y_up(looked), notes


class _Fitting:
    """Poses and path of a motion, a block of frames at a time, and how well its joints are met."""

    def __init__(self, scale: float, notes: list[str]):
        self.scale, self.notes = scale, notes
        self.poses: list[np.ndarray] = []
        self.path: list[np.ndarray] = []
        self.distances: list[np.ndarray] = []

    def add(self, world: np.ndarray, found: Mapping[str, np.ndarray]) -> None:
        """World rotations (24, T, 3, 3), and the places (T, 3) of the joints: the hips go where the figure's are."""
        local = world.copy()
        local[1:] = np.swapaxes(world[list(PARENTS[1:])], -1, -2) @ world[1:]
        poses = matrix_to_axis_angle(torch.from_numpy(local.transpose(1, 0, 2, 3)))
        hips = (_REST[_INDEX["left_hip"]] + _REST[_INDEX["right_hip"]]) / 2
        path = (found["left_hip"] + found["right_hip"]) / 2 - world[0] @ hips
        places = [path]
        for joint, parent in enumerate(PARENTS[1:], start=1):
            places.append(places[parent] + world[parent] @ _REST[joint])
        distances = [np.linalg.norm(places[_INDEX[joint]] - at, axis=-1) for joint, at in found.items()]
        self.distances.append(np.stack(distances))
        self.poses.append(poses.float().numpy())
        self.path.append(path)

    def done(self, said: str | None, exact: bool = False) -> Fit:
        """The whole; `said` is told with the error, which is left out for None."""
        distances = np.concatenate(self.distances, axis=1)
        error = float(distances.mean())
        if said is not None:
            most = f"{100 * error:.2g} cm off on average, {100 * distances.max():.2g} at most"
            self.notes.append(f"fitted to its joints: {most}{'; ' if said else ''}{said}")
        return Fit(np.concatenate(self.poses), np.concatenate(self.path), error, self.scale, exact, self.notes)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _best_turn(rest: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(T, 3, 3): the rotations that bring vectors (n, 3) nearest to those of each frame (T, n, 3) (Kabsch 1976)."""
    left, _, right = np.linalg.svd(np.einsum("tna,nb->tab", seen, rest))
    sign = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= sign[:, None]
    return left @ right


def _shortest_turns(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(T, 3, 3): the shortest turns from directions (T, 3) to others."""
    one, other = _unit(start), _unit(end)
    axis = np.cross(one, other)
    sine, cosine = np.linalg.norm(axis, axis=-1), (one * other).sum(-1)
    # opposite ones: about any axis across
    across = np.cross(one, np.where(np.abs(one[:, :1]) < 0.7, [[1.0, 0, 0]], [[0, 1.0, 0]]))
    axis = np.where((sine < 1e-9)[:, None], across, axis)
    return Rotation.from_rotvec(_unit(axis) * np.arctan2(sine, cosine)[:, None]).as_matrix()
