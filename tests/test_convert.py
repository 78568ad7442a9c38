"""The authors' checkpoints: read whole or refused, never run. Their numbers are compared in test_parity.py."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from official import (
    official_classifier,
    official_generator,
    official_generator_2026,
    official_tokenizer,
    statistics,
    write_download_2026,
    write_statistics,
)

from megadance_hf import MusicToDancePipeline
from megadance_hf.cli import command as cli
from megadance_hf.hub.convert import (
    ConversionError,
    classifier_name,
    convert_checkpoint,
    convert_released_classifier,
    convert_released_generator,
    convert_released_tokenizer,
    generator_name,
    read_checkpoint,
    read_statistics,
    tokenizer_name,
)
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.genres_megadance import AISTPP_GENRES, FINEDANCE_GENRES
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.motion.safe_files import FileError, load_pickle

CONVERTERS = {
    "generator": (convert_released_generator, official_generator, "gpt.", generator_name),
    "generator of 2026": (convert_released_generator, official_generator_2026, "gpt.", generator_name),
    "tokenizer": (convert_released_tokenizer, official_tokenizer, "fsq.", tokenizer_name),
    "classifier": (convert_released_classifier, official_classifier, "cls_model.", classifier_name),
}


def everything() -> dict[str, torch.Tensor]:
    state = {}
    for name in ("generator", "tokenizer", "classifier"):
        _, make, prefix, _ = CONVERTERS[name]
        state |= make(prefix)
    return state


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": everything(), "epoch": 50}, path)
    return path


@pytest.fixture
def files(tmp_path):
    return write_statistics(tmp_path)


# --- how trainers pack a state dict --------------------------------------------------------------------------------------


def _named(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


PACKED = {
    "bare": lambda state: state,
    "lightning": lambda state: {
        "state_dict": _named("model.", state),
        "global_step": 7,
        "hyper_parameters": {"lr": 1.0},
    },
    "ddp": lambda state: {"model": _named("module.", state), "optimizer": {"state": {}}},
    "compiled in ddp": lambda state: {"model_state_dict": _named("module._orig_mod.", state)},
    "each network in ddp": lambda state: {
        "state_dict": {re.sub(r"^(\w+)\.", r"\1.module.", n): v for n, v in state.items()}
    },
    "in two containers": lambda state: {"state_dict": {"model": state}, "epoch": 3},
}


@pytest.mark.parametrize("packed", PACKED)
def test_a_state_dict_is_found_however_it_was_packed(tmp_path, packed):
    state = official_tokenizer("fsq.") | official_classifier("cls_model.")
    torch.save(PACKED[packed](state), tmp_path / "checkpoint.pt")
    found = read_checkpoint(tmp_path / "checkpoint.pt")
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"optimizer": {}, "epoch": 3},
            "holds no state dict, .*under one of model, state_dict, .*; it has epoch, optimizer: .*state of an optimizer",
        ),
        ({"state_dict": {}}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"fsq.a": torch.zeros(1), "fsq.module.a": torch.ones(1)}, "has fsq.a twice"),
    ],
)
def test_what_holds_no_state_dict(tmp_path, content, message):
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(ConversionError, match=message):
        read_checkpoint(tmp_path / "checkpoint.pt")


# --- state dicts -------------------------------------------------------------------------------------------------------


def test_sizes_are_read_off_the_shapes():
    config = convert_released_generator(official_generator()).config
    assert (config.codebook_size, config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (
        27,
        16,
        2,
        24,
    )
    assert (config.state_size, config.conv_kernel, config.expand, config.time_step_rank) == (4, 4, 2, 1)
    assert (config.music_hidden_size, config.output_hidden_size, config.genres) == (8, 12, ["genre0", "genre1"])
    config = convert_released_generator(official_generator_2026(levels=(5, 2, 3), genres=10)).config
    assert (config.codebook_size, config.levels, config.num_hidden_layers, config.state_size) == (30, [5, 2, 3], 2, 4)
    assert config.arrangement == "released_2026" and config.genres == list(AISTPP_GENRES)
    named = convert_released_generator(official_generator(), id2label={0: "waltz", 1: "rumba"})
    assert named.config.genres == ["waltz", "rumba"] and named.generation_config.mode == "released"
    config = convert_released_tokenizer(official_tokenizer()).config
    assert (config.hidden_size, config.code_size, config.num_downsamples, config.residual_depth) == (8, 6, 3, 1)
    assert config.codebook_size == 4375
    config = convert_released_classifier(official_classifier()).config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.num_outputs) == (
        16,
        2,
        24,
        20,
    )


def test_a_converted_model_of_other_sizes_generates_the_same_with_a_cache_and_without():
    model = convert_released_generator(official_generator_2026(levels=(5, 2, 3), genres=3, layers=3))
    features, genres = torch.randn(3, 8 * 40, 35), torch.tensor([2, 0, 1])
    cached, anew = (model.generate(features, genres, use_cache=cache, output_logits=True) for cache in (True, False))
    assert cached.upper_codes.shape == (3, 40) and cached.upper_logits.shape == (3, 39, 10)
    torch.testing.assert_close(cached.upper_logits, anew.upper_logits, atol=1e-5, rtol=0)
    assert torch.equal(cached.upper_codes, anew.upper_codes) and torch.equal(cached.lower_codes, anew.lower_codes)
    digits = [level.argmax(-1) for level in cached.upper_logits.split((5, 2, 3), dim=-1)]
    assert torch.equal(cached.upper_codes[:, 1:], digits[0] + 5 * digits[1] + 10 * digits[2])


def test_how_far_attention_sees_is_read_off_the_mask():
    state = official_generator_2026()
    steps = torch.arange(29)
    behind = steps[:, None] - steps
    for window, expected in ((9, 9), (29, 22)):  # a mask that hides nothing of the past says nothing
        hidden = (behind < 0) | (behind >= window)
        state |= {name: hidden[None, None] for name in state if name.endswith("attn.mask")}
        assert convert_released_generator(state).config.context_codes == expected


@pytest.mark.parametrize("which", CONVERTERS)
def test_every_tensor_arrives_where_its_name_says(which):
    convert, make, prefix, rename = CONVERTERS[which]
    plain, prefixed = convert(make()), convert(make(prefix))
    assert not plain.training
    ours = plain.state_dict()
    names = ["genre0", "genre1"]
    for official, tensor in make().items():
        if not re.search(r"attn\.mask|MLP_keypoint", official):
            name = generator_name(official, names) if rename is generator_name else rename(official)
            assert torch.equal(ours.pop(name), tensor), official
    assert {name.split(".")[-1] for name in ours} <= {"music_mean", "music_std", "motion_mean", "motion_std"}
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), prefixed.state_dict().values(), strict=True)
    )


def test_statistics_become_buffers():
    tables = statistics()
    generator = convert_released_generator(official_generator(), tables)
    tokenizer = convert_released_tokenizer(official_tokenizer(), tables)
    classifier = convert_released_classifier(official_classifier(), tables)
    for buffer, parts in (
        (generator.model.music_mean, ["music_librosa_mean"]),
        (tokenizer.motion_mean, ["smpl_root_vel_mean", "smpl_poses_mean"]),
        (classifier.motion_mean, ["smpl_trans_mean", "smpl_poses_mean"]),
    ):
        np.testing.assert_allclose(buffer, np.concatenate([tables[0][part] for part in parts]), rtol=1e-6)
    one = ({"music_librosa_mean": 2.0}, {"music_librosa_std": torch.tensor([3.0])})
    generator = convert_released_generator(official_generator_2026(), one)
    assert torch.equal(generator.model.music_mean, torch.full((35,), 2.0))
    assert torch.equal(generator.model.music_std, torch.full((35,), 3.0))
    tables[0]["smpl_root_vel_mean"], tables[1]["smpl_poses_std"] = np.float32(4), np.array(5)
    tokenizer = convert_released_tokenizer(official_tokenizer(), tables)
    assert torch.equal(tokenizer.motion_mean[:3], torch.full((3,), 4.0))
    assert torch.equal(tokenizer.motion_std[3:], torch.full((144,), 5.0))
    with pytest.raises(ConversionError, match="mean file lacks music_librosa_mean"):
        convert_released_generator(official_generator(), ({}, {}))
    tables[1]["music_librosa_std"][3] = 0
    with pytest.raises(ConversionError, match="music_librosa_std must be 35 finite numbers above 0"):
        convert_released_generator(official_generator(), tables)


BROKEN = {
    "missing": (lambda state, name: state.pop(name), "missing: "),
    "unknown": (
        lambda state, name: state.update({"dance_decoder.surprise": torch.ones(1)}),
        "unknown: dance_decoder.surprise",
    ),
    "misshapen": (lambda state, name: state.update({name: state[name][:-1]}), r"misshapen: .* instead of"),
    "nan": (lambda state, name: state[name].view(-1)[0].fill_(torch.nan), "not finite: "),
    "infinite": (lambda state, name: state[name].view(-1)[-1].fill_(-torch.inf), "not finite: "),
    "whole numbers": (lambda state, name: state.update({name: state[name].long()}), "not floating-point: "),
}


@pytest.mark.parametrize("damage", BROKEN)
@pytest.mark.parametrize("which", CONVERTERS)
def test_a_damaged_state_dict_is_one_clear_error(which, damage):
    convert, make, _, _ = CONVERTERS[which]
    state = make()
    name = next(name for name in reversed(state) if name.endswith("bias"))
    change, message = BROKEN[damage]
    change(state, name)
    with pytest.raises(ConversionError, match=message):
        convert(state)


def of_both_releases(state):
    state["dance_decoder.pose_up_emb.weight"] = torch.ones(27, 16)


def without_layer_mambas(state):
    for name in [name for name in state if "global_mamba" in name]:
        del state[name]


def with_joint_output(state):
    state["dance_decoder.MLP_Output.1.weight"] = torch.ones(27, 12)


def without_the_last_genre(state):
    for name in [name for name in state if "layers.1.genre_swab.1." in name]:
        del state[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_both_releases, r"mixes .* \(2025: dance_decoder.pose_up_emb.weight; 2026: dance_decoder.decoder_layers"),
        (without_layer_mambas, r"lacks dance_decoder.decoder_layers.0.global_mamba.mamba1.A_log"),
        (with_joint_output, r"misshapen: dance_decoder.MLP_Output.1.weight \(27, 12\) instead of \(9, 12\)"),
        (without_the_last_genre, "missing: model.layers.1.genre_experts.genre_genre1"),
        (
            lambda state: state.update({"dance_decoder.pose_up_emb.0.weight": torch.ones(3)}),
            r"pose_up_emb.0.weight of shape \(3,\) instead of 2 dimensions",
        ),
        (
            lambda state: state.update({"dance_decoder.pose_up_emb.0.weight": torch.ones(3, 15)}),
            "no such network is possible: .*hidden_size=15",
        ),
    ],
)
def test_halves_of_a_release(change, message):
    state = official_generator_2026()
    change(state)
    with pytest.raises(ConversionError, match=message):
        convert_released_generator(state)


def test_a_state_dict_of_something_else():
    with pytest.raises(ConversionError, match="3 genres are named, but the checkpoint has 2"):
        convert_released_generator(official_generator(), id2label=dict(enumerate("abc")))
    with pytest.raises(ConversionError, match="lacks dance_decoder.pose_up_emb.weight"):
        convert_released_generator({"weight": torch.ones(2)})
    with pytest.raises(ConversionError, match="none of the three networks: optimizer.step"):
        convert_released_generator(official_generator("gpt.") | {"optimizer.step": torch.ones(1)})


# --- files -------------------------------------------------------------------------------------------------------------


def test_the_command_writes_a_folder_that_opens(checkpoint, files, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--mean", str(files["mean"]), "--std", str(files["std"]), "--genres", "waltz", "rumba"]
    assert cli.main(["convert", str(checkpoint), str(out), *arguments]) == 0
    output = capsys.readouterr().out
    assert "generator: MegaDanceForMotionGeneration" in output and f"wrote {out}" in output
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    generator = MegaDanceForMotionGeneration.from_pretrained(out, active_genres=["rumba"])
    assert generator.config.built_genres == ["rumba"] and generator.generation_config.mode == "released"
    expected = convert_released_generator(official_generator(), statistics(), id2label={0: "waltz", 1: "rumba"})
    theirs = expected.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in generator.state_dict().items())
    tokenizer = MegaDanceTokenizer.from_pretrained(out / "tokenizer")
    assert torch.equal(tokenizer.motion_std, convert_released_tokenizer(official_tokenizer(), statistics()).motion_std)
    assert MegaDanceForGenreClassification.from_pretrained(out / "classifier").config.num_outputs == 20
    assert (out / "preprocessor_config.json").is_file()


@pytest.mark.parametrize("which", CONVERTERS)
def test_a_file_of_one_network_without_prefix(tmp_path, which):
    torch.save(CONVERTERS[which][1](), tmp_path / "one.pt")
    lines = convert_checkpoint(tmp_path / "one.pt", tmp_path / "out")
    assert len(lines) == 1 and lines[0].startswith(which.partition(" ")[0])


def test_the_download_of_2026_takes_one_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_download_2026(tmp_path)
    assert cli.main(["convert", "output", "out", "--mean", "Pretrained/mean.pt", "--std", "Pretrained/std.pt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "arrangement: released_2026" in lines[0] and "statistics of Pretrained/mean.pt" in lines[0]
    assert lines[2].startswith("classifier: ") and lines[2].endswith("statistics of Pretrained/cls/mean.pt")
    pipe = MusicToDancePipeline.from_pretrained("out", device="cpu")
    assert pipe.model.config.arrangement == "released_2026" and pipe.model.config.genres == list(FINEDANCE_GENRES)
    assert pipe.tokenizer.config.levels == pipe.model.config.levels == [7, 5, 5, 5, 5]
    assert torch.equal(pipe.tokenizer.motion_mean, torch.full((147,), 0.25))
    assert torch.equal(pipe.model.model.music_std, torch.arange(1.0, 36))
    classifier = MegaDanceForGenreClassification.from_pretrained("out/classifier")
    assert torch.equal(classifier.motion_std, torch.full((147,), 3.0))
    # the same from the generator's file alone, and with the classifier's statistics named
    cls = {f"classifier_{kind}": f"Pretrained/cls/{kind}.pt" for kind in ("mean", "std")}
    convert_checkpoint(
        "output/gpt/90/Model/model.pth", "again", mean="Pretrained/mean.pt", std="Pretrained/std.pt", **cls
    )
    for file in [path.relative_to("out") for path in Path("out").rglob("*.safetensors")]:
        assert (Path("out") / file).read_bytes() == (Path("again") / file).read_bytes(), file


def test_which_of_several_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_download_2026(tmp_path)
    separate = [f"output/{name}/Model/model.pth" for name in ("fsq/120", "cls/30")]
    lines = convert_checkpoint(separate, "two")
    assert [line.partition(":")[0] for line in lines] == ["tokenizer", "classifier"]
    Path("output/gpt/50/Model").mkdir(parents=True)
    Path("output/gpt/50/Model/model.pth").write_bytes(Path("output/gpt/90/Model/model.pth").read_bytes())
    with pytest.raises(ConversionError, match="a generator in output/gpt/50/Model/model.pth and output/gpt/90.*one of"):
        convert_checkpoint("output", "three")
    with pytest.raises(ConversionError, match="Pretrained is a folder without a model.pth"):
        convert_checkpoint("Pretrained", "three")
    with pytest.raises(ConversionError, match="--classifier-mean and --classifier-std belong together"):
        convert_checkpoint(separate, "three", classifier_mean="Pretrained/cls/mean.pt")
    assert not Path("three").exists()


def test_the_tokenizer_gets_the_generator_s_levels(tmp_path):
    state = official_generator_2026("gpt.", levels=(3, 5, 3, 3, 3)) | official_tokenizer("fsq.")
    torch.save({"state_dict": state}, tmp_path / "model.pth")
    convert_checkpoint(tmp_path / "model.pth", tmp_path / "out")
    assert MegaDanceTokenizer.from_pretrained(tmp_path / "out" / "tokenizer").config.levels == [3, 5, 3, 3, 3]


def test_folders_of_earlier_versions_open(tmp_path, checkpoint):
    """Their configuration lacks the switches that came with the release of 2026."""
    convert_checkpoint(checkpoint, tmp_path / "new")
    (tmp_path / "old").symlink_to(tmp_path / "new")
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    for name in ("code_head", "levels", "level_decoding", "mamba_placement", "norm_per_stream"):
        del config[name]
    (tmp_path / "new" / "config.json").write_text(json.dumps(config))
    opened = MegaDanceForMotionGeneration.from_pretrained(tmp_path / "old")
    assert opened.config.arrangement == "released_2025"
    expected = convert_released_generator(official_generator()).state_dict()
    found = opened.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(value, found[name]) for name, value in expected.items())


OTHER_FILES = {
    "statistics": (
        lambda path: torch.save({"smpl_trans_mean": torch.zeros(())}, path),
        "it looks like statistics, which --mean",
    ),
    "the body model": (
        lambda path: path.write_bytes(pickle.dumps({"v_template": np.zeros((2, 3)), "bs_type": Bomb()})),
        "nothing in it was run.*: it looks like the body model",
    ),
    "EDGE": (
        lambda path: torch.save({"ema_state_dict": {"null_cond_embed": torch.ones(1)}, "normalizer": Bomb()}, path),
        "nothing in it was run.*: it looks like a checkpoint of EDGE",
    ),
    "Lightning": (
        lambda path: torch.save({"pytorch-lightning_version": "2", "state_dict": {"net.a": torch.ones(1)}}, path),
        "names begin with a: it looks like a checkpoint of another model's Lightning trainer",
    ),
    "an optimizer": (lambda path: torch.save(torch.optim.Adam([torch.ones(1)]).state_dict(), path), "an optimizer"),
    "this package's": (
        lambda path: torch.save({"model.layers.0.universal_expert.mlp.fc1.bias": torch.ones(1)}, path),
        "a model of this package, which needs no conversion",
    ),
    "a motion": (
        lambda path: path.write_bytes(pickle.dumps({"smpl_poses": np.zeros((9, 72))})),
        "it looks like a motion",
    ),
    "nothing known": (lambda path: torch.save({"encoder.0": torch.ones(1)}, path), "its names begin with encoder.0$"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_what_other_files_are(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    write, message = OTHER_FILES[kind]
    write(tmp_path / "other.pt")
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint("other.pt", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["other.pt"], "nothing was run or written"


# Resident memory, mapped pages included, at the peak of converting, and with one genre open, beyond what the imports take.
MEASURE = """
import re, sys
from pathlib import Path
import torch
from megadance_hf import MegaDanceForMotionGeneration
from megadance_hf.hub.convert import convert_checkpoint

def resident(kind):
    return int(re.search(kind + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

before = resident("VmRSS")
if sys.argv[1] == "convert":
    convert_checkpoint("model.pth", "out")
else:
    model = MegaDanceForMotionGeneration.from_pretrained("out", active_genres=["Popping"])
    sum(parameter.detach().sum() for parameter in model.parameters())
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_at_full_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        model = MegaDanceForMotionGeneration(MegaDanceConfig.released_2026())
    assert model.num_parameters() == 470_492_187
    official = official_generator_2026(levels=(7, 5, 5, 5, 5), genres=16, layers=8)
    names = {generator_name(name): name for name in official}
    state = {names[name]: torch.full(value.shape, 0.5) for name, value in model.named_parameters()}
    torch.save({"model": state}, "model.pth")
    size = Path("model.pth").stat().st_size
    del state

    def measured(what: str) -> int:
        command = [sys.executable, "-c", MEASURE, what]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    assert measured("convert") < 1.3 * size
    assert measured("open") < 400e6


class Bomb:
    def __reduce__(self):
        import os

        return os.mkdir, ("exploded",)


def bombed(path):
    torch.save({"model": everything(), "extra": Bomb()}, path)


def truncated(path):
    torch.save({"model": everything()}, path)
    path.write_bytes(path.read_bytes()[:-2000])


def damaged(change):
    def write(path):
        state = everything()
        change(state)
        torch.save({"model": state}, path)

    return write


BAD_FILES = {
    "code in it": (bombed, "nothing in it was run"),
    "plain pickle with code": (lambda path: path.write_bytes(pickle.dumps(Bomb())), "nothing in it was run"),
    "truncated": (truncated, "is no checkpoint of torch"),
    "empty": (lambda path: path.write_bytes(b""), "is no checkpoint of torch"),
    "text": (lambda path: path.write_text("hello"), "is no checkpoint of torch"),
    "not there": (lambda path: None, "does not exist"),
    "no state dict": (lambda path: torch.save({"model": [1, 2]}, path), "holds no state dict"),
    "another model": (lambda path: torch.save({"conv.weight": torch.ones(1)}, path), "none of the three networks"),
    "missing": (damaged(lambda s: s.pop("fsq.Pose_UP_Decoder.decoders.0.out.bias")), "missing: upper.decoder"),
    "nan": (damaged(lambda s: s["cls_model.dance_encoder.MLP_output.1.bias"].fill_(torch.nan)), "not finite"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_end_in_one_line_and_nothing_written(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    write, message = BAD_FILES[kind]
    write(tmp_path / "bad.pt")
    before = sorted(tmp_path.iterdir())
    assert cli.main(["convert", "bad.pt", "out"]) == 2
    output = capsys.readouterr()
    assert message in output.err and output.err.count("\n") == 1 and output.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_not_empty_stays_as_it_is(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConversionError, match="not empty"):
        convert_checkpoint(checkpoint, tmp_path / "out")
    with pytest.raises(ConversionError, match="--mean and --std belong together"):
        convert_checkpoint(checkpoint, tmp_path / "new", mean="mean.pkl")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_checkpoints_are_mapped_not_read(checkpoint, monkeypatch):
    asked = {}
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: asked.update(kwargs) or load(*args, **kwargs))
    read_checkpoint(checkpoint)
    assert asked["mmap"] and asked["weights_only"]


# --- pickles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_are_read(tmp_path, protocol):
    content = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": [1, (2.5, "x"), None, b"raw"],
        "c": np.float32(2),
        "d": np.array(["u"]),
    }
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content, protocol))
    found = load_pickle(tmp_path / "file.pkl")
    np.testing.assert_array_equal(found["a"], content["a"])
    assert found["b"] == content["b"] and found["c"] == 2 and found["d"][0] == "u"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (pickle.dumps(Bomb()), "mkdir"),
        (pickle.dumps(np.array([Bomb()], dtype=object)), "mkdir"),
        (pickle.dumps(np.array([{}], dtype=object)), "array of objects"),
        (pickle.dumps({"a": np.arange(1000)})[:-500], "cut off"),
        (b"", "cut off"),
        (b"\x93NUMPY", "no pickle"),
    ],
)
def test_nothing_else_is(tmp_path, monkeypatch, raw, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pkl").write_bytes(raw)
    with pytest.raises(FileError, match=message):
        load_pickle(tmp_path / "file.pkl")
    with pytest.raises(ConversionError, match="cannot be read"):
        read_statistics(tmp_path / "file.pkl")
    assert not (tmp_path / "exploded").exists()


def test_statistics_of_torch_with_numpy_s_numbers(tmp_path):
    table = {"smpl_poses_std": np.float32(0.5), "music_librosa_std": np.arange(35.0), "smpl_trans_std": 2}
    torch.save(table, tmp_path / "std.pt")
    found = read_statistics(tmp_path / "std.pt")
    assert all(np.array_equal(found[name], value) for name, value in table.items()) and len(found) == 3


@pytest.mark.parametrize("suffix", [".npz", ".pkl", ".pt", ".npy"])
def test_statistics_in_every_form(tmp_path, suffix):
    path, table = tmp_path / f"mean{suffix}", {"music_librosa_mean": np.arange(35.0)}
    if suffix == ".npz":
        np.savez(path, **table)
    elif suffix == ".pt":
        torch.save({name: torch.from_numpy(value) for name, value in table.items()}, path)
    else:
        path.write_bytes(pickle.dumps(table))
    np.testing.assert_array_equal(read_statistics(path)["music_librosa_mean"], table["music_librosa_mean"])
