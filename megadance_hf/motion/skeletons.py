"""SMPL poses fitted to other skeletons: joint positions, and `.bvh` files whose bones have known names.

Bones are found by name (`match_bones`), the body is scaled to our leg length, and our hips follow those of the file. If the rest
pose of a `.bvh` is a standing figure, the rotations of its bones are retargeted from that rest pose to ours. Otherwise, and for mere
positions, rotations are fitted to the joint positions (`from_positions`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import (
    BLOCK,
    JOINT_INDEX,
    JOINT_NAMES,
    NUM_JOINTS,
    PARENTS,
    REST_OFFSETS,
    matrix_to_axis_angle,
)

from .humanoid import straightening, sum_offsets, t_pose_offsets
from .layouts import MAX_FRAMES
from .rotations import rotations_about, shortest_rotations, unit
from .up_axis import MAX_SAMPLED_FRAMES, NO_UP_AXIS, LayoutError, axis_label, detect_up_axis, y_up_rotation

EXACT_TOLERANCE = 1e-3  # metres: bones of our own skeleton agree with ours to this accuracy
MAX_BONES = 5000
_REST = np.array(REST_OFFSETS)
_SIDES = ("left", "right")
_LONG_BONES = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))


@dataclass
class Fit:
    """SMPL poses fitted to another skeleton, Y up."""

    poses: np.ndarray  # (T, 24, 3) axis-angle
    translation: np.ndarray  # (T, 3) of the pelvis, metres
    error: float  # mean distance from the given joint positions, metres
    scale: float  # from the file's units to metres on our body
    exact: bool = False  # the file has our own skeleton, Y up
    notes: list[str] = field(default_factory=list)


# --- names of bones ------------------------------------------------------------------------------------------------------

# Names of the joints in MotionBuilder, Mixamo, CMU, SMPL, Unreal, 3ds Max, Poser, VRM, Unity, Rigify and Bandai Namco, without the
# side; the first one that a file has is used.
_SIDED_NAMES = {
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
_MIDDLE_NAMES = {
    "pelvis": ("pelvis", "hips", "hip"),
    "neck": ("neck", "lowerneck", "necklower", "necktwist"),
    "head": ("head",),
}
_SPINE_NAMES = ("lowerback", "spine", "abdomen", "waist", "belly", "torso", "chest", "upperchest", "thorax")
# Words in bone names without meaning: rigs, prefixes, the "average" bodies of SMPL's own FBX files.
_IGNORED_WORDS = frozenset("mixamorig bip j c m f avg def org jnt bone character cc base sk rig".split())
_REQUIRED = [f"{side}_{part}" for side in _SIDES for part in ("hip", "knee", "ankle", "shoulder", "elbow")]


def _parse_bone_name(name: str) -> tuple[str, str, int]:
    """A bone's side ("left", "right" or ""), its lower-case name without side and prefixes, and its number (0 without one)."""
    tokens = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name.rsplit(":", 1)[-1])
    side, parts, number = "", [], 0
    for position, token in enumerate(token.lower() for token in tokens):
        if token in ("left", "l", "lft", "right", "r", "rgt"):
            side = _SIDES[token[0] == "r"]
        elif token.isdigit():
            number = int(token[:6]) if position == len(tokens) - 1 and parts else number
        elif token == "joint":
            parts += ["joint"] if parts[-1:] == ["hip"] else []  # CMU's hipjoint, a bone before the thigh
        elif token not in _IGNORED_WORDS or (parts and token == "base"):
            parts.append(token)
    part = "".join(parts)
    known = {other for names in _SIDED_NAMES.values() for other in names}
    if not side and part not in known:  # leftupleg, lhip
        for prefixed in _SIDES:
            for prefix in (prefixed, prefixed[0]):
                if part.startswith(prefix) and part.removeprefix(prefix) in known:
                    return prefixed, part.removeprefix(prefix), number
    return side, part, number


def match_bones(names: Sequence[str], parents: Sequence[int] | None = None) -> dict[str, int]:
    """The index of the bone for each SMPL joint that is found: by names, and for the spine by the hierarchy if `parents` are given.

    Raises:
        LayoutError: legs, arms or head are missing.
    """
    parsed = [_parse_bone_name(name) for name in names]
    by_name: dict[tuple[str, str], int] = {}
    for index, (side, part, _) in reversed(list(enumerate(parsed))):
        by_name[side, part] = index
    found: dict[str, int] = {}
    for side in _SIDES:
        for joint, known in _SIDED_NAMES.items():
            taken = {found.get(f"{side}_{other}") for other in _SIDED_NAMES}
            index = next((by_name[side, part] for part in known if (side, part) in by_name), None)
            if joint == "collar" and index is not None and parsed[index][1] == "shoulder":
                # the collar bone only if another bone is the upper arm
                arm = any((side, part) in by_name for part in _SIDED_NAMES["shoulder"][:-1])
                index = index if arm else None
            if index is not None and index not in taken:
                found[f"{side}_{joint}"] = index
    for joint, known in _MIDDLE_NAMES.items():
        index = next((by_name["", part] for part in known if ("", part) in by_name), None)
        if index is not None:
            found[joint] = index
    if missing := [joint for joint in _REQUIRED if joint not in found]:
        missing += [] if "head" in found or "neck" in found else ["head"]
        shown = ", ".join(str(name)[:30] for name in names[:12]) + (", ..." if len(names) > 12 else "")
        raise LayoutError(
            f"no bone is named like {', '.join(missing[:5])}, only {shown}: name the bones as SMPL, Mixamo or "
            "MotionBuilder do (Hips, LeftUpLeg, LeftLeg, LeftFoot, LeftArm, LeftForeArm, Head, ...)"
        )
    if "head" not in found and "neck" not in found:
        raise LayoutError("no bone is named like head or neck: name it Head")
    if parents is None:
        spine = [index for index, (side, part, _) in enumerate(parsed) if not side and part in _SPINE_NAMES]
        spine.sort(key=lambda index: (min(_SPINE_NAMES.index(parsed[index][1]), 5), parsed[index][2], index))
    else:
        above = _ancestors(found["left_hip"], parents)
        common = [index for index in above if index in set(_ancestors(found["right_hip"], parents))]
        if "pelvis" not in found and common:
            found["pelvis"] = common[0]
        upper = _ancestors(found.get("neck", found.get("head", -1)), parents)
        stop = set(common) | {found.get("pelvis", -1)}
        spine = [index for index in upper if index not in stop][::-1]
        spine = [index for index in spine if index not in found.values() and "neck" not in parsed[index][1]]
    if spine:
        found["spine1"], found["spine3"] = spine[0], spine[-1]
        if len(spine) > 2:
            found["spine2"] = spine[len(spine) // 2]
        if len(spine) == 1:
            del found["spine1"]
    return found


def _ancestors(bone: int, parents: Sequence[int]) -> list[int]:
    """The ancestors of a bone, its parent first."""
    above: list[int] = []
    while bone >= 0 and (bone := parents[bone]) >= 0:
        above.append(bone)
    return above


# --- joint positions -------------------------------------------------------------------------------------------------------


def keeps_lengths(positions: np.ndarray) -> bool:
    """Whether (T, 22 or 24, 3) are positions of SMPL's joints: its long bones keep their lengths to within 5 percent."""
    bones = [
        (JOINT_INDEX[f"{side}_{joint}"], JOINT_INDEX[f"{side}_{child}"])
        for side in _SIDES
        for joint, child in _LONG_BONES
    ]
    lengths = np.stack([np.linalg.norm(positions[:, a] - positions[:, b], axis=-1) for a, b in bones], 1)
    middle = np.median(lengths, axis=0)
    if middle.min() <= 0 or middle.max() > 4 * middle.min():
        return False
    return bool((np.percentile(np.abs(lengths - middle), 90, axis=0) < 0.05 * middle).all()) and len(positions) > 1


def is_our_skeleton(positions: np.ndarray) -> bool:
    """Whether positions (T, 24, 3) are those of our own skeleton, in metres: all bones have our lengths."""
    bones = positions[:, 1:] - positions[:, list(PARENTS[1:])]
    return bool(np.abs(np.linalg.norm(bones, axis=-1) - np.linalg.norm(_REST[1:], axis=-1)).max() < EXACT_TOLERANCE)


def from_positions(joints: Mapping[str, np.ndarray], up: str | None = None) -> Fit:
    """Fit SMPL poses to named joint positions (T, 3) in any unit.

    Positions do not show the twist about a bone's own axis: thighs and upper arms are twisted so that knees and elbows bend about
    their hinges, other bones as little as possible.

    Raises:
        LayoutError: joints are missing, or the up axis cannot be detected.
    """
    names = list(joints)
    matched = match_bones(names)
    found = {joint: np.asarray(joints[names[index]], np.float64) for joint, index in matched.items()}
    scale = _scale(found)
    notes = [] if scale == 1 else [_scale_note(scale)]
    to_y_up, axis_notes = _rotation_to_y_up({joint: scale * at for joint, at in found.items()}, up, None)
    blocks = (
        {joint: scale * at[start : start + BLOCK] @ to_y_up.T for joint, at in found.items()}
        for start in range(0, len(found["left_hip"]), BLOCK)
    )
    fitted = ((_fit_rotations(block), block) for block in blocks)
    return _fit(fitted, scale, [*notes, *axis_notes], "turns about the bones' own axes are estimated")


def _fit_rotations(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """World rotations (24, T, 3, 3) that align our bones with joint positions (T, 3)."""
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
        observed = np.stack([found[target] - start for target, _ in targets], axis=1)
        if len(targets) > 1:
            world[joint] = _kabsch(rest, observed)
        else:
            world[joint] = shortest_rotations(above @ rest[0], observed[:, 0]) @ above
            axes = _bend_axes(name, found)
            if axes is not None:
                world[joint] = _twist_to_bend(world[joint], observed[:, 0], *axes)
    return world


def _targets(joint: int, found: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """For each bone below a joint: the next joint down that was found, and its offset at rest."""
    targets = []
    for child in (index for index, parent in enumerate(PARENTS) if parent == joint):
        below, vector = child, _REST[child].copy()
        while JOINT_NAMES[below] not in found:
            children = [index for index, parent in enumerate(PARENTS) if parent == below]
            if not children:
                break
            below = children[0]
            vector += _REST[below]
        else:
            targets.append((JOINT_NAMES[below], vector))
    return targets


def _bend_axes(name: str, found: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    """The axis about which the next joint bends, at rest (3,) and as observed (T, 3); the latter grows with the bend."""
    side, _, part = name.partition("_")
    chain = {"hip": ("hip", "knee", "ankle"), "shoulder": ("shoulder", "elbow", "wrist")}.get(part)
    if chain is None or any(f"{side}_{link}" not in found for link in chain):
        return None
    first, middle, last = (found[f"{side}_{link}"] for link in chain)
    upper, lower = unit(middle - first), unit(last - middle)
    axis = np.array([1.0, 0, 0]) if part == "hip" else np.array([0, -1.0 if side == "left" else 1.0, 0])
    return axis, np.cross(upper, lower)


def _twist_to_bend(world: np.ndarray, along: np.ndarray, rest: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """World rotations (T, 3, 3), twisted about the bone towards the bend axis `observed`, the more the clearer that is."""
    along = unit(along)
    current = world @ rest
    # A straight limb keeps its twist: the observed axis is noise. The weights fit the rotations of real dances best.
    target = observed * np.linalg.norm(observed, axis=-1, keepdims=True) + 0.5 * current
    across = [vector - (vector * along).sum(-1, keepdims=True) * along for vector in (current, target)]
    start, end = map(unit, across)
    angle = np.arctan2((np.cross(start, end) * along).sum(-1), (start * end).sum(-1))
    return Rotation.from_rotvec(angle[:, None] * along).as_matrix() @ world


# --- BVH -------------------------------------------------------------------------------------------------------------------


@dataclass
class Bvh:
    """A parsed file; parents come before their children."""

    names: list[str]
    parents: list[int]  # -1 for roots
    offsets: np.ndarray  # (J, 3) from the parent, in the file's units
    channels: list[list[str]]  # of each bone, such as "Xrotation"
    values: np.ndarray  # (T, channels of all bones)
    seconds: float  # per frame

    def world(self, bones: Iterable[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """World rotations (T, 3, 3) and positions (T, 3) of bones and their ancestors, in the file's own units.

        Channels are applied in the order in which they are listed. Positions are relative to the parent and replace the offset.
        """
        frames = len(self.values)
        needed = {bone for each in bones for bone in (each, *_ancestors(each, self.parents))}
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        first = np.cumsum([0, *map(len, self.channels)])
        for bone, parent in enumerate(self.parents):
            if bone not in needed:
                continue
            position, rotation = np.tile(self.offsets[bone], (frames, 1)), np.tile(np.eye(3), (frames, 1, 1))
            for channel, values in zip(self.channels[bone], self.values[:, first[bone] :].T, strict=False):
                axis = "XYZ".index(channel[0])
                if channel.endswith("position"):
                    position[:, axis] = values
                else:
                    rotation = rotation @ rotations_about(axis, np.radians(values))
            if parent >= 0:
                above, start = found[parent]
                position, rotation = start + np.einsum("tab,tb->ta", above, position), above @ rotation
            found[bone] = rotation, position
        return found


def parse_bvh(text: str) -> Bvh:
    """Parse a Biovision hierarchy with any order and number of channels.

    Raises:
        LayoutError: the text is not one, is cut off, or holds values that are not numbers.
    """
    head, separator, body = text.partition("MOTION")
    if not separator or "HIERARCHY" not in head[:1000].upper():
        raise LayoutError("it is no BVH (HIERARCHY, then MOTION): export it again")
    names, parents, offsets, channels = _hierarchy(head)
    match = re.match(r"\s*Frames\s*:?\s*(\d+)\s+Frame\s*Time\s*:?\s*(\S+)", body, re.IGNORECASE)
    if match is None:
        raise LayoutError("after MOTION come no Frames: and Frame Time: lines: export it again")
    try:
        seconds = float(match[2])
    except ValueError:
        raise LayoutError(f"Frame Time is {match[2][:40]!r}: give the seconds per frame") from None
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
    return Bvh(names, parents, offsets, channels, values, _round_frame_time(match[2], seconds))


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


def _round_frame_time(text: str, seconds: float) -> float:
    """1 / N if the frame time is that, rounded to its printed digits: .0333 is 1/30."""
    if not 1e-4 < seconds < 1e4:
        return seconds
    rate = max(1, round(1 / seconds))
    digits = len(text.partition(".")[2]) if "e" not in text.lower() else 12
    return 1 / rate if abs(1 / rate - seconds) <= 0.6 * 10.0**-digits else seconds


def from_bvh(bvh: Bvh, up: str | None = None) -> Fit:
    """SMPL poses of the figure in a `.bvh`; `up` is its up axis, detected when None.

    Raises:
        LayoutError: its bones have no known names, or it has too many frames.
    """
    matched = match_bones(bvh.names, bvh.parents)
    if len(bvh.values) > MAX_FRAMES:
        raise LayoutError(f"it has {len(bvh.values)} frames, the limit is {MAX_FRAMES}: cut it into pieces")
    standing = dict(zip(matched, sum_offsets(bvh.offsets, bvh.parents)[list(matched.values())], strict=True))
    scale = _scale({joint: at[None] for joint, at in standing.items()})
    if (exact := _exact_rest_pose(bvh, matched, scale)) is None:
        correction = _rest_corrections(standing, scale)
    else:
        correction = exact
    notes = [] if exact is not None or scale == 1 else [_scale_note(scale)]
    if bvh.parents.count(-1) > 1:
        notes.append(f"it has {bvh.parents.count(-1)} roots: the first bones with known names are taken")
    to_y_up = np.eye(3)
    if exact is None or up is not None:
        sample = replace(bvh, values=bvh.values[:: -(-len(bvh.values) // MAX_SAMPLED_FRAMES)]).world(matched.values())
        positions = {joint: scale * sample[index][1] for joint, index in matched.items()}
        to_y_up, axis_notes = _rotation_to_y_up(positions, up, "y")
        notes += axis_notes

    def fitted() -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for start in range(0, len(bvh.values), BLOCK):
            block = replace(bvh, values=bvh.values[start : start + BLOCK]).world(matched.values())
            found = {joint: scale * block[index][1] @ to_y_up.T for joint, index in matched.items()}
            if correction is None:
                yield _fit_rotations(found), found
                continue
            world = np.tile(np.eye(3), (NUM_JOINTS, len(found["left_hip"]), 1, 1))
            for joint, name in enumerate(JOINT_NAMES):
                if name in matched:
                    world[joint] = to_y_up @ block[matched[name]][0] @ correction[joint]
                elif joint:
                    world[joint] = world[PARENTS[joint]]
            yield world, found

    if exact is not None:
        return _fit(fitted(), scale, notes, None, exact=up is None)
    remark = "" if correction is not None else "turns about the bones' own axes are estimated"
    return _fit(fitted(), scale, notes, remark)


def _exact_rest_pose(bvh: Bvh, matched: Mapping[str, int], scale: float) -> np.ndarray | None:
    """Rotations (24, 3, 3) from our rest pose to the file's, if `save_bvh` wrote the file; else None."""
    if len(bvh.names) != len(matched):
        return None
    for offsets, rotations in _rest_poses():
        errors = [
            np.abs(scale * bvh.offsets[index] - offsets[JOINT_INDEX[joint]]).max()
            for joint, index in matched.items()
            if joint != "pelvis"
        ]
        if max(errors) < 1e-4 and len(errors) >= NUM_JOINTS - 3:
            return rotations
    return None


def _rest_corrections(standing: Mapping[str, np.ndarray], scale: float) -> np.ndarray | None:
    """Rotations (24, 3, 3) from our rest pose to a file's; None if the latter is not a standing figure.

    One rotation for the whole body, which may face elsewhere, then one for each bone of arms and legs to its direction in the file.
    """
    best = None
    for offsets, rotations in _rest_poses():
        ours = sum_offsets(offsets)
        names = [name for name in standing if name not in ("left_foot", "right_foot")]
        middle = [
            (at["left_hip"] + at["right_hip"]) / 2 for at in (dict(zip(JOINT_NAMES, ours, strict=True)), standing)
        ]
        body = _kabsch(
            np.stack([ours[JOINT_INDEX[name]] - middle[0] for name in names]),
            np.stack([scale * (standing[name] - middle[1]) for name in names])[None],
        )[0]
        body = _snap_to_right_angles(body)
        correction, angles = body @ rotations, []
        for side in _SIDES:
            for joint, below in _LONG_BONES:
                if f"{side}_{below}" not in standing:
                    continue
                index, child = JOINT_INDEX[f"{side}_{joint}"], JOINT_INDEX[f"{side}_{below}"]
                start = unit(body @ offsets[child])
                end = unit(standing[f"{side}_{below}"] - standing[f"{side}_{joint}"])
                angles.append(np.degrees(np.arccos(np.clip(start @ end, -1, 1))))
                if angles[-1] > (100 if joint in ("shoulder", "elbow") else 45):
                    angles[-1] = 1000.0
                    continue
                aligning = shortest_rotations(start, end)
                correction[index] = aligning @ body @ rotations[index]
                if joint == "elbow":
                    correction[child] = aligning @ body  # a hand at rest is in line with its arm
        back = standing.get("neck", standing.get("head")) - middle[1]
        lean = np.degrees(np.arccos(np.clip(unit(back) @ body[:, 1], -1, 1)))
        total = sum(angles) + (1000.0 if lean > 40 else 0.0)
        if total < 1000 and (best is None or total < best[0]):
            best = (total, correction)
    return None if best is None else best[1]


def _rest_poses() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Offsets (24, 3) of the two rest poses that we write, SMPL's and the T-pose, and rotations (24, 3, 3) to them from SMPL's."""
    return (_REST, np.tile(np.eye(3), (NUM_JOINTS, 1, 1))), (t_pose_offsets(), straightening())


def _snap_to_right_angles(rotation: np.ndarray) -> np.ndarray:
    """The nearest rotation by right angles if it is within 20 degrees: bodies of other proportions only seem to lean."""
    nearest = max(_RIGHT_ANGLES, key=lambda other: np.trace(other.T @ rotation))
    angle = np.degrees(np.arccos(np.clip((np.trace(nearest.T @ rotation) - 1) / 2, -1, 1)))
    return nearest if angle < 20 else rotation


_RIGHT_ANGLES = np.rint(Rotation.create_group("O").as_matrix()) + 0.0  # without minus zero


# --- common ----------------------------------------------------------------------------------------------------------------


def _scale(found: Mapping[str, np.ndarray]) -> float:
    """The factor from a file's units to metres on our body: the ratio of the leg lengths."""
    bones = [(f"{side}_{joint}", f"{side}_{below}") for side in _SIDES for joint, below in _LONG_BONES[:2]]
    lengths = [float(np.median(np.linalg.norm(found[below] - found[joint], axis=-1))) for joint, below in bones]
    ours = sum(float(np.linalg.norm(_REST[JOINT_INDEX[below]])) for _, below in bones)
    if not sum(lengths) > 1e-9 or min(lengths) < 0.05 * max(lengths):
        raise LayoutError("its legs have no length: is it a motion of a figure?")
    scale = ours / sum(lengths)
    return next((unit for unit in (1.0, 0.01, 0.001) if abs(scale / unit - 1) < 1e-3), scale)


def _scale_note(scale: float) -> str:
    return f"brought to metres and the size of our skeleton: 1 unit is {scale:.5g} m"


def _rotation_to_y_up(
    found: Mapping[str, np.ndarray], up: str | None, default: str | None
) -> tuple[np.ndarray, list[str]]:
    """The rotation (3, 3) that brings positions in metres to Y up, and notes on it; `default` is the axis if none is clear."""
    head = found.get("head", found.get("neck"))
    joints = np.stack([head, found["left_ankle"], found["right_ankle"]], axis=1)
    axis = detect_up_axis(joints, 0, [1, 2]) if up is None else up
    notes = []
    if axis is None:
        if default is None:
            raise LayoutError(NO_UP_AXIS)
        axis = default
        notes.append(f"{default.upper()} up, as usual; the motion itself does not show it")
    if axis != "y":
        why = "as told" if up is not None else "that is where the head is above the feet"
        notes.append(f"turned from {axis_label(axis)} up to Y up: {why}")
    return y_up_rotation(axis), notes


def _fit(
    blocks: Iterable[tuple[np.ndarray, Mapping[str, np.ndarray]]],
    scale: float,
    notes: list[str],
    remark: str | None,
    exact: bool = False,
) -> Fit:
    """The fit of blocks of frames: world rotations (24, T, 3, 3) and the given joint positions (T, 3).

    Our hips are placed at the given ones. A note tells the distances from the given joints, and `remark`; none if that is None.
    """
    poses, path, distances = [], [], []
    for world, found in blocks:
        local = world.copy()
        local[1:] = np.swapaxes(world[list(PARENTS[1:])], -1, -2) @ world[1:]
        poses.append(matrix_to_axis_angle(torch.from_numpy(local.transpose(1, 0, 2, 3))).float().numpy())
        hips = (_REST[JOINT_INDEX["left_hip"]] + _REST[JOINT_INDEX["right_hip"]]) / 2
        path.append((found["left_hip"] + found["right_hip"]) / 2 - world[0] @ hips)
        positions = [path[-1]]
        for joint, parent in enumerate(PARENTS[1:], start=1):
            positions.append(positions[parent] + world[parent] @ _REST[joint])
        errors = [np.linalg.norm(positions[JOINT_INDEX[joint]] - at, axis=-1) for joint, at in found.items()]
        distances.append(np.stack(errors))
    every = np.concatenate(distances, axis=1)
    error = float(every.mean())
    if remark is not None:
        errors = f"{100 * error:.2g} cm off on average, {100 * every.max():.2g} at most"
        notes.append(f"fitted to its joints: {errors}{'; ' if remark else ''}{remark}")
    return Fit(np.concatenate(poses), np.concatenate(path), error, scale, exact, notes)


def _kabsch(rest: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The rotations (T, 3, 3) that bring vectors (n, 3) nearest to those of each frame (T, n, 3) (Kabsch 1976)."""
    left, _, right = np.linalg.svd(np.einsum("tna,nb->tab", observed, rest))
    sign = np.sign(np.linalg.det(left @ right))
    left[:, :, 2] *= sign[:, None]
    return left @ right
