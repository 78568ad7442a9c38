"""The same numbers as the authors' release of 2026; `tests/test_parity.py` has the release of 2025."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from raw_folders import RealClip, make_finedance_processed
from scipy.spatial.transform import Rotation
from test_parity import filled_state

from megadance_hf.data.clip import Clip, clip_positions
from megadance_hf.data.codes import encode_clips
from megadance_hf.data.prepared import read_prepared
from megadance_hf.data.segments import CodeSegments, MotionSegments
from megadance_hf.data.statistics import Statistics, released_motion_statistics
from megadance_hf.data.windows import window_starts
from megadance_hf.datasets_scripts import finedance
from megadance_hf.hub.convert import (
    convert_released_classifier,
    convert_released_generator,
    convert_released_tokenizer,
    generator_name,
    tokenizer_name,
)
from megadance_hf.modeling.genres_megadance import FINEDANCE_GENRES
from megadance_hf.modeling.kinematics_megadance import PARENTS, motion_to_joints
from megadance_hf.training.adan import Adan
from megadance_hf.training.recipes import Recipe, read_recipe
from megadance_hf.training.schedule import learning_rate_at
from megadance_hf.training.tasks import Draws, GeneratorTask

# ---------------------------------------------------------------------------------------------- training2026_reduced


@pytest.fixture(scope="module")
def training(parity) -> tuple[dict[str, np.ndarray], dict]:
    return parity("2026/training2026_reduced")


def released_recipe(repository, kind: str) -> Recipe:
    return read_recipe(repository / "examples" / "configs" / f"released_2026_{kind}.yaml", kind)


@pytest.fixture(scope="module")
def window_clips(training, tmp_path_factory) -> list[Clip]:
    """Clips as long and marked as those of the fixture, by way of the authors' folder and `megadance prepare`."""
    lengths = training[1]["window_clips"]
    still = {
        name: RealClip(np.zeros((n["pose"], 72), np.float32), np.zeros((n["pose"], 3), np.float32), None, 0)
        for name, n in lengths.items()
    }
    features = {name: np.zeros((n["music"], 35), np.float32) for name, n in lengths.items()}
    marked = {name: "".join(f"{frame}\n" for frame in n["anomaly"]) for name, n in lengths.items()}
    folder = tmp_path_factory.mktemp("windows")
    muq, styles = ({name: n[key] for name, n in lengths.items()} for key in ("muq", "style2"))
    raw = make_finedance_processed(folder / "raw", still, features, muq, marked, styles)
    report = finedance.prepare(raw, folder / "out", layout="authors", progress=False)
    assert report.made == list(lengths), report.left_out
    return sorted(read_prepared(folder / "out"), key=lambda clip: clip.id)


def starts_of(clips: Sequence[Clip], windows: dict[str, Any]) -> tuple[list[int], list[str]]:
    rules = {name: windows[name] for name in ("length", "stride", "drop_marked", "until_muq") if name in windows}
    starts = [(start, clip.id) for clip in clips for start in window_starts(clip, **rules)]
    return [start for start, _ in starts], [name for _, name in starts]


@pytest.mark.parametrize(
    ("loader", "kind", "section"),
    [
        ("tokenizer_train", "tokenizer", "windows"),
        ("tokenizer_eval", "tokenizer", "validation"),
        ("generator_train", "generator", "windows"),
        ("generator_eval", "generator", "validation"),
        ("classifier_train_and_eval", "classifier", "windows"),
        ("classifier_train_and_eval", "classifier", "validation"),
    ],
)
def test_the_recipes_cut_the_released_windows(repository, training, window_clips, loader, kind, section):
    expected = training[1]["window_starts"]
    starts, names = starts_of(window_clips, released_recipe(repository, kind).section(section))
    assert starts == expected[loader]
    genres = {clip.id: FINEDANCE_GENRES.index(clip.genre) for clip in window_clips}
    labels = expected.get(f"{loader}_labels") or expected.get("classifier_labels" if kind == "classifier" else "")
    assert labels is None or [genres[name] for name in names] == labels
    assert expected.get(f"{loader}_files") in (None, names)


def test_segments_are_the_released_windows(repository, training, window_clips):
    """As many as the loaders have, of the same genres, in the same order."""
    expected = training[1]["window_starts"]
    options = released_recipe(repository, "classifier").section("windows")
    segments = MotionSegments(window_clips, genres=FINEDANCE_GENRES, **options)
    assert [int(item["labels"]) for item in segments] == expected["classifier_labels"]
    segments = MotionSegments(window_clips, **released_recipe(repository, "tokenizer").section("windows"))
    assert len(segments) == len(expected["tokenizer_train"])


def euler_clip(arrays: dict[str, np.ndarray], info: dict, name: str) -> Clip:
    """A clip whose rotations are those that the release makes of its 72 numbers, which it reads as Euler angles."""
    angles, music = arrays[f"{name}_angles72"], arrays[f"{name}_music"]
    frames = min(len(angles), len(music) // 8 * 8)
    poses = Rotation.from_euler("xyz", angles[:frames].reshape(-1, 3)).as_rotvec().reshape(-1, 72)
    clip = Clip(name, poses, arrays[f"{name}_trans"][:frames], music[:frames].astype(np.float32))
    clip.genre, clip.marked_frames = info["clips"][name]["style2"], info["clips"][name]["anomaly"]
    return clip.check(jumps="keep")


@pytest.fixture(scope="module")
def clips(training) -> list[Clip]:
    return [euler_clip(*training, name) for name in training[1]["clips"]]


@pytest.fixture(scope="module")
def statistics(clips, repository) -> Statistics:
    windows = released_recipe(repository, "tokenizer").section("windows")
    return Statistics.released(clips, windows["length"], windows["stride"])


def test_released_statistics(training, clips, statistics):
    arrays = training[0]
    path = [clip_positions(clip)[start : start + 240] for clip in clips for start in window_starts(clip, 240, 16)]
    positions = released_motion_statistics(path)
    for kind, motion, music, position in (
        ("mean", statistics.motion_mean, statistics.input_mean, positions[0]),
        ("std", statistics.motion_std, statistics.input_std, positions[1]),
    ):
        for values, name in (
            (motion[:3], "smpl_root_vel"),
            (motion[3:], "smpl_poses"),
            (music, "music_librosa"),
            (position[:3], "smpl_trans"),
            (position[3:], "smpl_poses"),
        ):
            expected = np.broadcast_to(arrays[f"{name}_{kind}"], values.shape)
            np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-8, err_msg=f"{name}_{kind}")


def filled_part(parity, part: str, older: str) -> dict[str, torch.Tensor]:
    """Weights of tokenizer or classifier, whose names and shapes are the older set's, by the newer rule."""
    info, rules = parity(older)[1], parity("2026/pipeline2026_reduced")[1]
    shapes = {name for name, *_ in info["state_dict"]}
    checks = {name: check for name, check in rules["fill_checks"].items() if name in shapes}
    return filled_state(info | {"fill": rules["fill"][part], "fill_checks": checks})


@pytest.fixture(scope="module")
def tokenizer(training, parity, statistics) -> Any:
    arrays, _ = training
    rest = arrays["rest_joints"]
    offsets = rest.copy()
    offsets[1:] -= rest[list(PARENTS[1:])]
    model = convert_released_tokenizer(filled_part(parity, "fsq", "fsq_reduced"), rest_offsets=offsets.tolist())
    model.set_statistics(statistics.motion_mean, statistics.motion_std)
    return model


def test_losses_of_tokenizer_windows(repository, training, clips, tokenizer):
    arrays, info = training
    segments = MotionSegments(clips, **released_recipe(repository, "tokenizer").section("windows"))
    places = [(clip.id, start) for clip in clips for start in window_starts(clip, 240, 16)]
    motion = torch.stack([segments[places.index((name, start))]["motion"] for name, start in info["fsq_windows"]])
    joints = torch.from_numpy(arrays["fsq_window_target_joints"]) - torch.from_numpy(arrays["rest_joints"][0])
    output = tokenizer(motion, target_joints=joints)
    expected = info["fsq_loss"]
    assert output.losses["smpl"].item() == pytest.approx(expected["smpl_loss"], rel=1e-4)
    assert output.losses["joint"].item() == pytest.approx(expected["keypoint_loss"], rel=5e-4)
    assert output.loss.item() == pytest.approx(expected["total"], rel=5e-4)
    tokenizer.config.joint_loss_weight = 0.0
    tokenizer.zero_grad()
    tokenizer(motion).loss.backward()
    tokenizer.config.joint_loss_weight = 1.0
    parameters = dict(tokenizer.named_parameters())
    for name, norm in info["fsq_gradient_l2_of_smpl_loss"].items():
        assert parameters[tokenizer_name(name)].grad.norm().item() == pytest.approx(norm, rel=1e-3), name


def test_target_joints_of_tokenizer_windows(training):
    """The release makes them of the same 72 numbers as axis-angle, and puts the pelvis at the root's velocity."""
    arrays, info = training
    rest = torch.from_numpy(arrays["rest_joints"])
    offsets = rest.clone()
    offsets[1:] -= rest[list(PARENTS[1:])]
    made = []
    for name, start in info["fsq_windows"]:
        frames = slice(start, start + 240)
        clip = Clip(name, arrays[f"{name}_angles72"][frames], arrays[f"{name}_trans"][frames])
        (segment,) = MotionSegments([clip], 240, random=False, mirror=False, isolated=True)
        motion = segment["motion"]
        made.append(motion_to_joints(motion[None], motion[None, :, :3] + rest[0], offsets)[0])
    torch.testing.assert_close(
        torch.stack(made), torch.from_numpy(arrays["fsq_window_target_joints"]), atol=1e-4, rtol=0
    )


@pytest.fixture(scope="module")
def code_segments(repository, clips, tokenizer, statistics) -> CodeSegments:
    """As examples/train_generator.py makes them of the released recipe, of windows with marked frames as well."""
    options = released_recipe(repository, "generator").section("windows") | {"drop_marked": False}
    mirror, _ = options.pop("mirror"), options.pop("isolated")
    cut = {name: options[name] for name in ("length", "stride", "drop_marked")}
    encoded = encode_clips(tokenizer, clips, mirror=mirror, windows=cut)
    return CodeSegments(encoded, FINEDANCE_GENRES, statistics, **options)


@pytest.fixture(scope="module")
def generator_batch(training, code_segments) -> dict[str, torch.Tensor]:
    places = [item.clip.id for item in code_segments.encoded]
    items = [code_segments[places.index(f"{name}@{start}")] for name, start in training[1]["gpt_windows"]]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def test_generator_windows(training, generator_batch, statistics):
    arrays, info = training
    music = (generator_batch["input_features"][:, ::8] - statistics.input_mean) / statistics.input_std
    torch.testing.assert_close(music, torch.from_numpy(arrays["gpt_windows_music_normalized"]), atol=1e-4, rtol=1e-4)
    for stream, name in (("upper", "up"), ("lower", "down")):
        codes = (arrays[f"gpt_windows_codes_{name}"] * [1, 7, 35, 175, 875]).sum(-1)
        np.testing.assert_array_equal(generator_batch[f"{stream}_codes"], codes)
    assert generator_batch["genre_ids"].tolist() == info["gpt_labels"]


@pytest.mark.slow
def test_losses_of_generator_windows(training, parity, generator_batch, statistics):
    info, weights = training[1], parity("2026/gpt2026_reduced")[1]
    genres = FINEDANCE_GENRES[: weights["structure"]["genre_experts_per_layer"]]
    model = convert_released_generator(filled_state(weights), id2label=dict(enumerate(genres)))
    model.set_music_statistics(statistics.input_mean, statistics.input_std)
    loss, _ = GeneratorTask(None).loss(model, generator_batch, Draws(torch.Generator(), 0, 2))
    assert loss.item() == pytest.approx(info["gpt_loss"], abs=1e-4)
    loss.backward()
    parameters = dict(model.named_parameters())
    for name, norm in info["gpt_gradient_l2"].items():
        if not name.endswith("attn.key.bias"):  # its true gradient is zero
            gradient = parameters[generator_name(name, genres)].grad
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-7), name


@pytest.mark.slow
def test_losses_of_classifier_windows(training, clips, parity):
    """On the generator's windows, with the root where it is and the tokenizer's statistics."""
    arrays, info = training
    model = convert_released_classifier(filled_part(parity, "style_classifier", "style_classifier"))
    mean, std = (
        torch.cat(
            (
                torch.from_numpy(arrays[f"smpl_trans_{kind}"]).expand(3),
                torch.from_numpy(arrays[f"smpl_poses_{kind}"]).expand(144),
            )
        )
        for kind in ("mean", "std")
    )
    model.set_statistics(mean, std)
    positions = {clip.id: clip_positions(clip) for clip in clips}
    motion = torch.stack(
        [torch.from_numpy(positions[name][start : start + 240]) for name, start in info["gpt_windows"]]
    )
    with torch.no_grad():
        output = model(motion, labels=torch.tensor(info["gpt_labels"]))
    torch.testing.assert_close(output.logits, torch.from_numpy(arrays["classifier_windows_output"]), atol=1e-5, rtol=0)
    assert output.loss.item() == pytest.approx(info["classifier_loss"], abs=1e-4)


def test_adan_steps(training):
    arrays, info = training
    settings = info["adan"]
    names = ("adan_param", "adan_idle_param")
    parameter, idle = (torch.nn.Parameter(torch.from_numpy(arrays[name].copy())) for name in names)
    options = {"betas": tuple(settings["betas"]), "eps": settings["eps"], "weight_decay": settings["weight_decay"]}
    optimizer = Adan([parameter, idle], lr=settings["lr"], **options)
    for step, grad in enumerate(arrays["adan_grads"]):
        parameter.grad, idle.grad = torch.from_numpy(grad.copy()), torch.zeros_like(idle)
        optimizer.step()
        for value, name in ((parameter, "adan_param"), (idle, "adan_idle_param")):
            expected = torch.from_numpy(arrays[f"{name}_after"][step])
            torch.testing.assert_close(value.detach(), expected, atol=1e-6, rtol=0)


def test_learning_rates_of_the_classifier(repository, training):
    config = released_recipe(repository, "classifier").training()
    expected = training[1]["classifier_learning_rate_by_epoch"]
    rates = [learning_rate_at(config, 7 * epoch, 7 * config.epochs, epoch) for epoch in range(config.epochs)]
    np.testing.assert_allclose(rates[: len(expected)], expected[: len(rates)], rtol=1e-9)


def test_the_released_optimizers(repository, training):
    settings = training[1]["adan"]
    config = released_recipe(repository, "generator").training()
    given = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "betas": config.betas, "eps": config.eps}
    assert config.optimizer == "adan" and given == {name: settings[name] for name in given}
