"""The evaluation on a tiny prepared data set with tiny models: what every table holds, and what must be so in any."""

import json
import re

import numpy as np
import pytest
import torch
from helpers import GENRES, save_tiny_model, song, tiny_generator, tiny_tokenizer

from megadance_hf.cli import command as cli
from megadance_hf.cli import evaluate as evaluate_command
from megadance_hf.data.attributes import attribute_quantiles, clip_attributes
from megadance_hf.data.card import Card
from megadance_hf.data.clip import SPLITS, clip_motion
from megadance_hf.data.prepared import read_prepared, write_prepared
from megadance_hf.evaluation import run as evaluation
from megadance_hf.evaluation.dances import Dance, excerpts_of
from megadance_hf.evaluation.obedience import found_quantile, obedience
from megadance_hf.evaluation.run import evaluate
from megadance_hf.evaluation.scores import NUMBERS
from megadance_hf.evaluation.tables import ABLATIONS, PROTOCOLS, EvaluationError, Protocol
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.pipeline import MusicToDancePipeline

FRAMES = 120


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Nine songs; of the last test song only 100 frames."""
    folder = tmp_path_factory.mktemp("prepared")
    clips = []
    for number in range(9):
        frames = 100 if number == 8 else 260
        clip = song(number, frames, period=0.4 + 0.05 * number, genre=GENRES[number % 3])
        clip.poses = (clip.poses * (1 + number / 5)).astype(np.float32)
        clip.split = "train" if number < 4 else "test"
        clips.append(clip)
    write_prepared(folder, clips, card=Card("Songs", "Made by a test.", "none"), genres=GENRES)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a model, a classifier and every ablation."""
    home = tmp_path_factory.mktemp("models")
    save_tiny_model(home / "model")
    torch.manual_seed(1)
    size = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "output_hidden_size": 8}
    config = MegaDanceClassifierConfig(**size, num_hidden_layers=1, num_outputs=4, id2label=dict(enumerate(GENRES)))
    MegaDanceForGenreClassification(config).save_pretrained(home / "classifier")
    for name, off in (("genre_experts", "use_genre_experts"), ("universal_experts", "use_universal_experts")):
        save_tiny_model(home / f"no_{name}")
        tiny_generator(**{off: False}).save_pretrained(home / f"no_{name}")
    save_tiny_model(home / "no_mamba")
    tiny_generator(use_mamba=False).save_pretrained(home / "no_mamba")
    for name, off in {
        "no_kinematic_loss": {"joint_loss_weight": 0.0},
        "no_dynamic_loss": {"velocity_weight": 0.0, "acceleration_weight": 0.0},
        "vq": {"quantizer": "vq"},
    }.items():
        sizes = {"levels": [3, 3, 3], "hidden_size": 8, "code_size": 8, "residual_depth": 1}
        tokenizer = MegaDanceTokenizer(MegaDanceTokenizerConfig(**sizes, **off))
        tokenizer.set_statistics(tiny_tokenizer().motion_mean, tiny_tokenizer().motion_std)
        tokenizer.save_pretrained(home / name)
    return home


@pytest.fixture(scope="module")
def full(data, models):
    """Everything that can be measured."""
    return evaluate(
        models / "model",
        data,
        "finedance",
        classifier=models / "classifier",
        ablations={name: models / name for name in ABLATIONS},
        seeds=2,
        clip_frames=FRAMES,
    )


@pytest.fixture(scope="module")
def report(full):
    return full.report


def values(table: dict) -> dict[str, dict]:
    return {row["label"]: row["values"] for row in table["rows"]}


# --- tables --------------------------------------------------------------------------------------------------------------


def test_every_table_is_laid_out_as_in_the_paper(report):
    tables = report["tables"]
    assert list(tables) == ["1", "3", "4a", "4b"]
    assert tables["1"]["columns"] == ["FID_k", "FID_g", "FID_s", "DIV_k", "DIV_g", "DIV_s", "BAS"]
    baselines = ["ground truth of another song", "nearest music", "frozen pose", "tokenizer"]
    assert list(values(tables["1"])) == ["ground truth", *baselines, "MEGADance"]
    assert tables["3"]["columns"][:4] == ["FID_s", "DIV_s", "ACC", "F1"]
    assert list(values(tables["3"]))[0] == "ground truth"
    assert list(values(tables["3"]))[-4:] == ["MEGADance", "w/o SE", "w/o UE", "w/o Mamba"]
    assert tables["4a"]["columns"] == ["FID_k", "FID_g", "FID_s", "BAS"]
    assert list(values(tables["4a"])) == ["ground truth", "w/o SE", "w/o UE", "w/o Mamba", "Ours"]
    assert tables["4b"]["columns"][:4] == ["SMPL_MSE", "SMPL_MAE", "joint_MSE", "joint_MAE"]
    assert list(values(tables["4b"])) == ["w/o Kin. Loss", "w/o Dyn. Loss", "FSQ -> VQ-VAE", "Ours"]


def test_ground_truth_is_at_distance_zero_from_itself(report):
    for table in ("1", "4a"):
        truth = values(report["tables"][table])["ground truth"]
        assert all(truth[f"FID_{kind}"] == pytest.approx(0, abs=1e-6) for kind in "kgs")
    others = [row for label, row in values(report["tables"]["1"]).items() if "ground truth" not in label]
    assert all(row["FID_k"] > 0.1 for row in others)
    assert values(report["tables"]["1"])["ground truth"]["DIV_k"] > 1


def test_a_frozen_pose_is_frozen_and_has_no_beat(report):
    row = report["rows"]["frozen_pose"]
    assert row["frozen_share"] == 1 and row["BAS"] == 0 and row["DIV_k"] == pytest.approx(0, abs=1e-6)
    assert row["mean_speed"] == row["jerk"] == row["largest_step"] == row["foot_skating_ratio"] == 0


def test_the_worst_of_many_is_told_beside_the_mean(report):
    for name, row in report["rows"].items():
        dances = report["dances"][name]
        assert row["worst"]["largest_turn"] == max(dance["largest_turn"] for dance in dances)
        assert row["dances_with"]["spins"] == sum(dance["spins"] > 0 for dance in dances)
        assert row["toe_90"] == pytest.approx(np.mean([dance["toe_90"] for dance in dances]))
    frozen = report["rows"]["frozen_pose"]
    assert frozen["worst"]["largest_step"] == 0 == frozen["dances_with"]["jumps"] and frozen["landings_on_beat"] is None


def test_training_motion_is_looked_for_in_what_could_repeat_it(report):
    rows = report["rows"]
    assert rows["nearest_music"]["known_run"] == pytest.approx(
        FRAMES / 30, abs=0.5
    )  # one piece, but for the shorter song
    assert rows["megadance"]["known_run"] is not None and rows["shifted"]["known_run"] is None
    assert 0 < rows["megadance"]["codes_in_use"]["upper"] <= 1 and rows["ground_truth"]["codes_in_use"] is None


def test_every_dance_is_counted(report):
    counts = {name: row["dances"] for name, row in report["rows"].items()}
    generated = ["megadance", "shifted", "swapped", "zeroed", "no_genre_experts", "no_universal_experts", "no_mamba"]
    assert {name: counts.pop(name) for name in generated} == dict.fromkeys(generated, 5 * 2)
    assert counts == dict.fromkeys(["ground_truth", "other_song", "nearest_music", "frozen_pose", "tokenizer"], 5)
    assert {name: len(rows) for name, rows in report["dances"].items()} == {
        name: row["dances"] for name, row in report["rows"].items()
    }


def test_genres_are_asked_for_right_and_wrong(report):
    confusion = {name: np.array(rows) for name, rows in report["genres"]["confusion"].items()}
    right, forced = confusion["megadance, right"], confusion["megadance, forced"]
    assert right.sum() == 5 * 2 and forced.sum() == 5 * 2 * 2  # two other genres there are
    assert (right + forced == confusion["megadance, both"]).all()
    assert (right.sum(1) + forced.sum(1) == 10).all()
    row = report["genres"]["scores"]["megadance"]
    assert row["ACC"] == pytest.approx((row["ACC_right"] + 2 * row["ACC_forced"]) / 3)
    truth = report["genres"]["scores"]["ground_truth"]
    assert truth["ACC"] == truth["ACC_right"] and "ACC_forced" not in truth


def test_a_forced_genre_stands_beside_its_truth(report):
    found, truth = report["forced"], report["genre_truth"]
    assert set(found) == {"raw", "cleaned"} and found["raw"]["dances"] == 5 * 2 * 2
    assert set(truth) == set(GENRES)
    asked = np.array(report["genres"]["confusion"]["megadance, forced"]).sum(1)
    counts = [found["raw"]["by_genre"].get(genre, {"dances": 0})["dances"] for genre in report["genres"]["names"]]
    assert counts == asked.tolist()


def test_both_versions_are_of_the_same_dances(report, data, models):
    rows = report["rows"]
    assert rows["frozen_pose"]["versions"] == rows["other_song"]["versions"] == {}
    for name in ("ground_truth", "nearest_music", "tokenizer", "megadance", "shifted", "no_mamba"):
        versions = rows[name]["versions"]
        for number in ("toe_90", "FID_k", "spins", "landings_on_beat"):
            assert versions["raw"][number] == rows[name][number], (name, number)
        assert versions["cleaned"]["dances"] == rows[name]["dances"]
        assert versions["cleaned"]["worst"]["depth_below_floor"] < 0.001
    options = {"seeds": 2, "clip_frames": FRAMES, "clean": True}
    clean = evaluate(models / "model", data, "finedance", **options).report["rows"]
    for name in ("ground_truth", "tokenizer", "megadance"):
        for version in ("raw", "cleaned"):
            for number in ("toe_90", "jerk", "FID_k"):
                wanted = rows[name]["versions"][version][number]
                assert clean[name]["versions"][version][number] == pytest.approx(wanted), (name, version, number)
    assert clean["megadance"]["jerk"] == clean["megadance"]["versions"]["cleaned"]["jerk"]
    assert clean["megadance"]["known_run"] == rows["megadance"]["known_run"]  # looked for in what was decoded
    assert clean["ground_truth"]["jerk"] == rows["ground_truth"]["jerk"]  # captured motion stays as it is


def test_beats_are_those_of_features_and_of_the_data_set(report):
    row = report["dances"]["ground_truth"][0]
    assert 0 < row["bas_over_music"] <= 1 and row["bas_over_music_known_beats"] == pytest.approx(
        row["bas_over_music"], abs=0.05
    )
    assert report["rows"]["ground_truth"]["BAS"] == pytest.approx(
        np.mean([row["bas_over_music"] for row in report["dances"]["ground_truth"]])
    )


def test_a_real_dance_goes_with_its_own_bar(report):
    for row in report["dances"]["ground_truth"]:
        assert row["bar_of_the_song"]["own"] == pytest.approx(1)
    assert set(report["bar_profiles"]) == set(GENRES)
    assert {"training", "ground_truth", "megadance", "shifted"} <= set(report["bar_profiles"]["waltz"])


def test_genres_are_summed_up_by_themselves(report):
    for row in report["rows"].values():
        assert sum(genre["dances"] for genre in row["by_genre"].values()) == row["dances"]
    waltz = [row for row in report["dances"]["megadance"] if row["genre"] == "waltz"]
    found = report["rows"]["megadance"]["by_genre"]["waltz"]
    assert found["bar"] == pytest.approx(np.mean([row["bar"]["own"] for row in waltz]))
    assert found["jerk"] == pytest.approx(np.mean([row["jerk"] for row in waltz]))


def test_what_it_was_measured_with_is_told(report):
    settings = report["settings"]
    assert settings["protocol"]["clip_frames"] == FRAMES and settings["seeds"] == 2 and settings["reference"] == "test"
    assert report["reference"]["excerpts"] == 5
    assert report["notes"] == [
        "song8 (96 frames) is shorter than 120 frames",
    ]
    assert {"torch", "megadance_hf", "numpy"} <= set(report["versions"])
    json.dumps(report)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_report(full, data, models):
    again = evaluate(models / "model", data, "finedance", seeds=2, clip_frames=FRAMES)
    # what else is evaluated does not change the dances
    for name in ("megadance", "shifted", "tokenizer"):
        wanted = [{k: v for k, v in row.items() if k != "genre_seen"} for row in full.report["dances"][name]]
        assert again.report["dances"][name] == wanted
    assert again.report["cross_entropy"] == full.report["cross_entropy"]
    assert list(again.report["tables"]) == ["1"] and again.report["tables"]["1"]["rows"][0]["values"]["FID_s"] is None
    other = evaluate(models / "model", data, "finedance", seeds=2, seed=1, clip_frames=FRAMES)
    assert other.report["dances"]["megadance"] != again.report["dances"]["megadance"]


def test_the_truth_s_own_codes_score_as_the_tokenizer(data, models, monkeypatch):
    """An oracle instead of a generator."""
    pipe = MusicToDancePipeline.from_pretrained(models / "model")
    clips = [item.clip for item in excerpts_of(read_prepared(data, "test"), FRAMES)]
    encode = pipe.tokenizer.encode

    def generate(features, genre_ids, attention_mask, **kwargs):
        codes = []
        for row, mask in zip(features.numpy(), attention_mask.numpy(), strict=True):
            clip = next(c for c in clips if mask.sum() == len(c) and (c.input_features == row[mask]).all())
            found = encode(torch.from_numpy(clip_motion(clip)[None]))
            length = features.shape[1] // 8
            codes.append([torch.nn.functional.pad(c[0], (0, length - c.shape[1])) for c in vars(found).values()])
        upper, lower = (torch.stack(streams) for streams in zip(*codes, strict=True))
        return type("Output", (), {"upper_codes": upper, "lower_codes": lower})

    monkeypatch.setattr(pipe.model, "generate", generate)
    monkeypatch.setattr(evaluation, "wrong_music", lambda *arguments: [])
    found = evaluate(pipe, data, "finedance", seeds=1, clip_frames=FRAMES).report
    oracle, tokenizer = found["rows"]["megadance"], found["rows"]["tokenizer"]
    for name in (*NUMBERS, "FID_k", "FID_g", "DIV_k", "BAS"):
        if tokenizer[name] is None:  # no foot lands, and no clip names units
            assert oracle[name] is None and name.startswith(("landings", "new_joins", "in_units"))
        else:
            assert oracle[name] == pytest.approx(tokenizer[name], rel=1e-4, abs=1e-6), name
    for name, value in tokenizer["codes_in_use"].items():
        assert oracle["codes_in_use"][name] == value


# --- protocols -----------------------------------------------------------------------------------------------------------


def test_the_protocols_are_those_of_the_paper():
    finedance, aistpp = PROTOCOLS["finedance"], PROTOCOLS["aistpp"]
    assert finedance.clip_frames / 30 == pytest.approx(34.13, abs=0.01) and finedance.songs == 20
    assert aistpp.clip_frames / 30 == 20 and aistpp.songs == 40
    assert aistpp.columns == ("FID_k", "FID_g", "DIV_g", "DIV_s", "BAS")
    assert set(evaluate_command.PROTOCOLS) == set(PROTOCOLS)
    assert evaluate_command.SPLITS == SPLITS


@pytest.mark.slow
def test_several_excerpts_of_few_songs_against_every_split(data, models):
    protocol = Protocol("mine", "2", 80, 3, ("FID_k", "BAS"), clip_stride=40)
    found = evaluate(models / "model", data, protocol, reference="all", seeds=1).report
    assert [(e["song"], e["start"]) for e in found["excerpts"]] == [
        *((name, start) for name in ("song4", "song6") for start in (0, 40, 80, 120, 160)),
        ("song8", 0),
    ]
    assert len(found["cross_entropy"]["songs"]) == 3
    # significance over songs counts songs, not the excerpts of them
    tests = found["rows"]["megadance"]["synchrony"]["beat_over_music"]
    assert (tests["dances"]["pairs"], tests["songs"]["pairs"]) == (11, 3)
    assert found["against_wrong_music"]["shifted"]["beat_over_music"]["pairs"] == 11
    assert found["reference"] == {
        "set": "all",
        "excerpts": 8 * 5 + 1,
        "constant_features_left_out": found["reference"]["constant_features_left_out"],
    }
    truth = values(found["tables"]["2"])["ground truth"]
    assert list(truth) == ["FID_k", "BAS"] and truth["FID_k"] > 0.01


def test_attributes_asked_and_found(data, models, tmp_path):
    names, clips = ["travel", "arm_height"], read_prepared(data, "train")
    save_tiny_model(tmp_path)
    quantiles = attribute_quantiles(clips, GENRES, names)
    tiny_generator(attributes=names, attribute_quantiles=quantiles).save_pretrained(tmp_path)
    full = evaluate(tmp_path, data, "finedance", classifier=models / "classifier", seeds=1, clip_frames=48)
    found, songs = full.report["attributes"], len(full.report["excerpts"])
    assert list(found) == names
    for numbers in found.values():
        assert numbers["dances"] == 5 * songs and set(numbers["found"]) == {"0.1", "0.3", "0.5", "0.7", "0.9"}
        assert set(numbers["by_genre"]) == {item["genre"] for item in full.report["excerpts"]}
        assert all(0 <= level <= 1 for level in numbers["found"].values()) and 0 <= numbers["genre_recognised"] <= 1
    assert "## As it was asked for" in (full.write(tmp_path / "out")[1]).read_text(encoding="utf-8")


def test_obedience_by_hand():
    asked = [0.1, 0.5, 0.9] * 2
    found = obedience(asked, [0.2, 0.3, 0.7, 0.9, 0.5, 0.1], ["tango"] * 3 + ["waltz"] * 3)
    assert found["by_genre"] == {"tango": 1.0, "waltz": -1.0} and abs(found["rank_correlation"]) < 0.3
    assert found["found"] == pytest.approx({"0.1": 0.55, "0.5": 0.4, "0.9": 0.4})
    assert obedience(asked, [0.5] * 6, ["waltz"] * 6)["rank_correlation"] is None


def test_what_is_found_is_a_quantile_of_the_genre(data):
    clips = read_prepared(data, "train")
    names = ["turns", "speed"]
    config = MegaDanceConfig(
        id2label=dict(enumerate(GENRES)),
        attributes=names,
        attribute_quantiles=attribute_quantiles(clips, GENRES, names),
    )
    for clip in clips:
        found = found_quantile(Dance(0, clip.poses, clip.translation, clip.genre), "speed", config)
        signal = clip_attributes(clip)[:, 1]
        expected = np.mean([signal <= value for value in [signal.mean()]])
        same = [other for other in clips if other.genre == clip.genre]
        if len(same) == 1:
            assert abs(found - expected) < 0.1


def test_one_song_alone_has_no_distribution(data, models):
    found = evaluate(models / "model", data, "aistpp", songs=1, seeds=1, clip_frames=80).report
    row = values(found["tables"]["2"])["MEGADance"]
    assert row["FID_k"] is None and row["BAS"] == found["dances"]["megadance"][0]["bas_over_music"]
    assert "swapped" not in found["rows"] and "other_song" not in found["rows"]
    assert any("another song leaves out" in note for note in found["notes"])


# --- mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"protocol": "waltz"}, "protocol='waltz' is none of finedance, aistpp"),
        ({"tables": ["5"]}, "tables='5' is none of 1, 2, 3, 4a, 4b"),
        ({"tables": ["2"]}, "tables='2' cannot be made: it belongs to protocol='aistpp'"),
        ({"tables": ["3"]}, "--classifier"),
        ({"tables": ["4a"]}, "no_genre_experts, no_universal_experts, no_mamba (--ablation"),
        ({"tables": ["4b"]}, "no_kinematic_loss, no_dynamic_loss, vq (--ablation"),
        ({"ablations": {"no_music": "x"}}, "ablation 'no_music' is none of no_genre_experts,"),
        ({"ablations": {"no_mamba": "model"}}, "needs use_mamba=False"),
        ({"ablations": {"vq": "model"}}, "needs quantizer='vq'"),
        ({"ablations": {"vq": "classifier"}}, "ablation vq="),
        ({"classifier": "model"}, "classifier="),
        ({"classifier": "nowhere"}, "classifier="),
        ({"reference": "train"}, "reference='train' is neither"),
        ({"seeds": 0}, "seeds=0 must be 1 or more"),
        ({"clip_frames": 100}, "clip_frames=100 must be a multiple of 8"),
        ({"clip_frames": 8}, "16 or more"),
        ({"clip_stride": 0}, "clip_stride=0 must be 1 or more"),
        ({"splits": ["validation"]}, "validation"),
        ({"data": "nowhere"}, "data='nowhere'"),
    ],
)
def test_mistakes_are_named(data, models, options, reason):
    folders = {"ablations": lambda v: {n: str(models / f) for n, f in v.items()}, "classifier": lambda v: models / v}
    options = {name: folders.get(name, lambda v: v)(value) for name, value in options.items()}
    with pytest.raises(EvaluationError, match=re.escape(reason)) as error:
        evaluate(models / "model", **({"data": data, "protocol": "finedance"} | options))
    assert "\n" not in str(error.value)


def test_a_genre_that_the_model_cannot_dance_is_an_error(tmp_path, data, models):
    clips = read_prepared(data, "test")
    clips[0].genre = "tango"
    write_prepared(tmp_path, clips, card=Card("Songs", "", "none"), genres=[*GENRES, "tango"])
    with pytest.raises(ValueError, match="tango"):
        evaluate(models / "model", tmp_path, "finedance")


# --- the command ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_writes_the_report(data, models, tmp_path, capsys):
    arguments = ["evaluate", "--model", models / "model", "--data", data, "--protocol", "finedance", "--seeds", 1]
    arguments += ["--clip-frames", 80, "--songs", 3, "--classifier", models / "classifier", "--tables", "1,3,4b"]
    arguments += ["--ablation", f"vq={models / 'vq'}", "--out", tmp_path / "deep" / "report"]
    assert cli.main([str(argument) for argument in arguments]) == 0
    names = {path.name for path in (tmp_path / "deep" / "report").iterdir()}
    plots = {"table_1.png", "table_3.png", "table_4b.png", "cross_entropy.png", "synchrony.png", "genres.png"}
    assert names == {"report.json", "tables.md", "bar_profiles.png", *plots}
    printed = capsys.readouterr().out
    assert "## Table 1" in printed and "## Table 4 (b)" in printed and "report.json" in printed
    report = json.loads((tmp_path / "deep" / "report" / "report.json").read_text())
    assert report["settings"]["protocol"]["songs"] == 3 and list(report["tables"]) == ["1", "3", "4b"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--tables", "3"], "--classifier"),
        (["--ablation", "vq"], "argument --ablation: 'vq' is not NAME=DIR"),
        (["--out", "FILE"], "is a file"),
        (["--data", "nowhere"], "data='nowhere'"),
        (["--model", "./nowhere"], "nowhere"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(data, models, tmp_path, capsys, arguments, reason):
    (tmp_path / "file").touch()
    arguments = [str(tmp_path / "file") if argument == "FILE" else argument for argument in arguments]
    base = [
        "evaluate",
        "--model",
        models / "model",
        "--data",
        data,
        "--protocol",
        "finedance",
        "--out",
        tmp_path / "out",
    ]
    assert cli.main([*map(str, base), *arguments]) == 2
    printed = capsys.readouterr()
    assert reason in printed.err and printed.err.strip().count("\n") == 0 and printed.out == ""
    assert not (tmp_path / "out").exists()
