"""Models and data sets on the Hub: pushed, loaded by id, a genre at a time, with and without the package. The Hub is a stand-in
that speaks HTTP (`hub_server.py`); nothing else is replaced."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import transformers
from card_rules import LICENCES
from helpers import GENRES, save_tiny_data, save_tiny_model, tiny_classifier, tiny_generator, tiny_tokenizer, write_song
from hub_server import GUEST, OWNER
from huggingface_hub import HfApi, constants
from test_evaluation import data, models  # noqa: F401  (fixtures)
from test_model_card import metadata, report  # noqa: F401  (a fixture)
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor

from megadance_hf import MusicToDancePipeline
from megadance_hf.cli import command as cli
from megadance_hf.evaluation import reports
from megadance_hf.hub import HubError, push_to_hub, push_while_training, save_for_hub
from megadance_hf.hub.repository import open_model
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor

REPO = "anna/dance"
CODE = {path.name for path in (Path(__file__).parent.parent / "modeling").glob("*_megadance*.py")}
SHARDS = {"model-shared.safetensors"} | {f"model-genre_{genre}.safetensors" for genre in GENRES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pipe(folder):
    return MusicToDancePipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return write_song(tmp_path_factory.mktemp("song") / "song.wav", seconds=1.5)


def same(one, other) -> bool:
    return np.array_equal(one.poses, other.poses) and np.array_equal(one.translation, other.translation)


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_generator_goes_there_whole_and_comes_back_the_same(hub, folder, pipe, song):
    assert push_to_hub(folder, REPO, song=song) == f"{hub.url}/{REPO}"
    files = hub.repositories["model", REPO].files()
    expected = {"config.json", "generation_config.json", "model.safetensors.index.json", "preprocessor_config.json"}
    expected |= {"processor_config.json", "handler.py", "requirements.txt", "README.md", "sample.mp4", "sample.png"}
    expected |= {"tokenizer/config.json", "tokenizer/model.safetensors", ".gitattributes"}
    assert set(files) == expected | CODE | SHARDS
    config = json.loads(files["config.json"])
    assert config["auto_map"]["AutoModel"] == "modeling_megadance.MegaDanceModel"
    assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_megadance.MegaDanceForMotionGeneration"
    for name in ("config.json", "tokenizer/config.json", "preprocessor_config.json", "processor_config.json"):
        for place in json.loads(files[name])["auto_map"].values():
            module, _, cls = place.partition(".")
            assert f"class {cls}(" in files[f"{module}.py"].decode(), "flat, and of a class that is there"
    module, _, cls = config["custom_pipelines"]["music-to-dance"]["impl"].partition(".")
    assert f"class {cls}(" in files[f"{module}.py"].decode()
    loaded = MusicToDancePipeline.from_pretrained(REPO)
    dance, expected = (one(song, "rumba", seed=3) for one in (loaded, pipe))
    assert same(dance, expected) and dance.metadata["model"] == REPO


def test_transformers_pipeline_needs_no_trust_where_the_package_is(hub, folder, pipe, song):
    push_to_hub(folder, REPO)
    for options in ({}, {"trust_remote_code": True}):
        loaded = transformers.pipeline("music-to-dance", model=REPO, **options)
        assert type(loaded) is MusicToDancePipeline and same(loaded(song, seed=1), pipe(song, seed=1))


def test_only_the_shards_of_the_genres_asked_for_are_fetched(hub, folder, song):
    push_to_hub(folder, REPO)
    one = {"model-shared.safetensors", "model-genre_waltz.safetensors"}
    hub.requests.clear()
    model = MegaDanceForMotionGeneration.from_pretrained(REPO, active_genres=["Waltz"])
    assert hub.shards() == one and model.config.built_genres == ["waltz"] and model.name_or_path == REPO
    model.load_genres(REPO, ["rumba"])
    assert hub.shards() == one | {"model-genre_rumba.safetensors"}
    assert len([name for name in hub.downloads() if name.endswith(".safetensors")]) == 3, "each of them once"
    whole = MegaDanceForMotionGeneration.from_pretrained(folder)
    features = torch.randn(1, 32, 35)
    for genre in ("waltz", "rumba"):
        ids = torch.tensor([GENRES.index(genre)])
        codes = [m.eval().generate(features, ids, seed=0, do_sample=True).upper_codes for m in (model, whole)]
        assert torch.equal(*codes)


@pytest.mark.parametrize("how", ["pipeline", "transformers", "auto", "auto without head", "command"])
def test_whoever_asks_for_one_genre_fetches_one(hub, folder, song, tmp_path, how):
    push_to_hub(folder, REPO)
    hub.requests.clear()
    if how == "pipeline":
        model = MusicToDancePipeline.from_pretrained(REPO, active_genres=["waltz"]).model
    elif how == "transformers":
        made = transformers.pipeline("music-to-dance", model=REPO, model_kwargs={"active_genres": ["waltz"]})
        model = made.model
        assert len(made(song, "waltz", seed=0)) == 45
    elif how.startswith("auto"):
        auto_class = AutoModelForCausalLM if how == "auto" else AutoModel
        model = auto_class.from_pretrained(REPO, active_genres=["waltz"])
    else:
        arguments = ["generate", str(song), "--model", REPO, "--genre", "waltz", "-o", str(tmp_path / "dance.npz")]
        assert cli.main(arguments) == 0
        model = None
    assert hub.shards() - {"tokenizer/model.safetensors"} == {
        "model-shared.safetensors",
        "model-genre_waltz.safetensors",
    }
    assert model is None or (model.config.built_genres == ["waltz"] and model.name_or_path == REPO)


def test_a_tokenizer_is_found_in_its_own_repository_and_in_a_generator_s(hub, folder, pipe):
    push_to_hub(folder, REPO)
    tiny_tokenizer()
    push_to_hub(folder / "tokenizer", "anna/tokenizer")
    codes = torch.randint(27, (1, 4))
    expected = pipe.tokenizer.decode(codes, codes)
    for source in (REPO, "anna/tokenizer", folder, folder / "tokenizer"):
        loaded = MegaDanceTokenizer.from_pretrained(source).eval()
        assert torch.equal(loaded.decode(codes, codes), expected), source
    assert type(AutoModel.from_pretrained("anna/tokenizer")) is MegaDanceTokenizer
    assert type(AutoModel.from_pretrained(REPO, subfolder="tokenizer")) is MegaDanceTokenizer
    files = hub.repositories["model", "anna/tokenizer"].files()
    assert set(files) == {"config.json", "model.safetensors", "README.md", ".gitattributes"} | CODE


def test_push_to_hub_of_every_class_takes_the_code_along(hub, pipe):
    things = {
        "generator": pipe.model,
        "tokenizer": pipe.tokenizer,
        "classifier": tiny_classifier(),
        "extractor": pipe.processor.feature_extractor,
        "processor": pipe.processor,
        "config": pipe.model.config,
        "pipeline": pipe,
    }
    loaders = {"extractor": AutoFeatureExtractor, "processor": AutoProcessor, "config": AutoConfig}
    loaders["generator"] = AutoModelForCausalLM
    for name, thing in things.items():
        thing.push_to_hub(f"anna/{name}")
        files = set(hub.repositories["model", f"anna/{name}"].files())
        assert files >= CODE | {"README.md"}, name
        if name == "pipeline":
            assert type(MusicToDancePipeline.from_pretrained(f"anna/{name}").model) is type(pipe.model)
        else:
            assert type(loaders.get(name, AutoModel).from_pretrained(f"anna/{name}")) is type(thing)
        if name in ("generator", "pipeline"):
            assert {file for file in files if "/" not in file and file.endswith("safetensors")} == SHARDS


def test_pushing_again_replaces_what_would_be_in_the_way(hub, folder, tmp_path):
    api = HfApi()
    api.create_repo(REPO)
    for name in ("model.safetensors", "model-genre_polka.safetensors", "notes.txt"):
        api.upload_file(path_or_fileobj=b"old", path_in_repo=name, repo_id=REPO)
    push_to_hub(folder, REPO, message="Second")
    repository = hub.repositories["model", REPO]
    files = repository.files()
    assert {name for name in files if "/" not in name and name.endswith(".safetensors")} == SHARDS
    assert files["notes.txt"] == b"old" and repository.messages[-1] == "Second"


# --- who may see what, and when --------------------------------------------------------------------------------------


def test_branches(hub, folder, tmp_path, song):
    push_to_hub(folder, REPO)
    torch.manual_seed(5)
    other = tiny_generator()
    changed = MusicToDancePipeline(other, tiny_tokenizer(), MegaDanceProcessor(MegaDanceFeatureExtractor(), GENRES))
    push_to_hub(changed, REPO, revision="next")
    repository = hub.repositories["model", REPO]
    assert repository.files("main")["model-shared.safetensors"] != repository.files("next")["model-shared.safetensors"]
    for revision in ("next", repository.branches["next"]):
        loaded = MegaDanceForMotionGeneration.from_pretrained(REPO, revision=revision, active_genres=["waltz"])
        assert torch.equal(loaded.model.upper_embedding.weight, other.model.upper_embedding.weight)
    pipe = transformers.pipeline("music-to-dance", model=REPO, revision="next")
    assert same(pipe(song, seed=2), changed(song, seed=2))
    with pytest.raises(OSError, match="nowhere is not a valid git identifier"):
        MegaDanceForMotionGeneration.from_pretrained(REPO, revision="nowhere")
    with pytest.raises(ModelError, match="model='anna/dance' cannot be loaded: nowhere is not a valid git identifier"):
        MusicToDancePipeline.from_pretrained(REPO, revision="nowhere")


def test_private_repositories(hub, folder, song, monkeypatch):
    push_to_hub(folder, REPO, private=True)
    assert hub.repositories["model", REPO].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(OSError, match=r"(?s)is not a local folder and is not a valid model identifier.*private"):
        MegaDanceForMotionGeneration.from_pretrained(REPO)
    with pytest.raises(ModelError, match="private repository.*hf auth login"):
        MusicToDancePipeline.from_pretrained(REPO)
    with pytest.raises(HubError, match=r"repo='anna/dance': the Hub does not know you \(.*hf auth login"):
        push_to_hub(folder, REPO)
    one = MusicToDancePipeline.from_pretrained(REPO, token=OWNER)
    # transformers hands the token to the generator only; the tokenizer's and the extractor's files need it as well
    other = transformers.pipeline("music-to-dance", model=REPO, token=OWNER)
    assert same(one(song, seed=0), other(song, seed=0))


def test_gated_repositories(hub, folder, monkeypatch):
    push_to_hub(folder, REPO)
    hub.repositories["model", REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", GUEST)
    for call in (MegaDanceForMotionGeneration.from_pretrained, AutoModelForCausalLM.from_pretrained):
        for options in ({}, {"active_genres": ["waltz"]}):
            with pytest.raises(OSError, match="You are trying to access a gated repo"):
                call(REPO, **options)
    with pytest.raises(
        ModelError, match="You are trying to access a gated repo.*Access to model anna/dance is restric"
    ):
        MusicToDancePipeline.from_pretrained(REPO)
    hub.granted.add(GUEST)
    assert MusicToDancePipeline.from_pretrained(REPO).genres == list(GENRES)


def test_without_the_network_what_was_fetched_still_opens(hub, folder, pipe, song, monkeypatch):
    push_to_hub(folder, REPO)
    MusicToDancePipeline.from_pretrained(REPO, active_genres=["waltz"])
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded = MusicToDancePipeline.from_pretrained(REPO, active_genres=["waltz"])
    assert same(loaded(song, "waltz", seed=0), pipe(song, "waltz", seed=0)) and hub.requests == []
    with pytest.raises(ModelError, match="model='anna/dance' cannot be loaded.*couldn't find them in the cached files"):
        MusicToDancePipeline.from_pretrained(REPO, active_genres=["rumba"])
    with pytest.raises(HubError, match="repo='anna/dance': the Hub cannot be reached.*offline.*unset HF_HUB_OFFLINE"):
        push_to_hub(folder, REPO)


def test_a_hub_that_is_not_there(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="repo='anna/dance': the Hub cannot be reached"):
        push_to_hub(folder, REPO)
    assert cli.main(["push", str(save_tiny_data(tmp_path / "set")), "anna/set"]) == 2


# --- while training --------------------------------------------------------------------------------------------------


def test_a_training_pushes_now_and_then_and_goes_on_when_it_can_t(hub, pipe, monkeypatch, caplog):
    def whole(model):
        return MusicToDancePipeline(model, pipe.tokenizer, pipe.processor, device=model.device)

    push = push_while_training(REPO, whole, private=True)
    push(tiny_generator(), 3)
    push(tiny_generator(), 6)
    repository = hub.repositories["model", REPO]
    assert repository.messages[1:] == ["Training, epoch 3", "Training, epoch 6"] and repository.private
    assert MusicToDancePipeline.from_pretrained(REPO).genres == list(GENRES)
    monkeypatch.setenv("HF_TOKEN", GUEST)
    push(tiny_generator(), 9)
    assert "epoch 9 was not pushed: repo='anna/dance': the Hub does not know you" in caplog.text
    monkeypatch.setenv("HF_TOKEN", OWNER)
    push_while_training("anna/tokenizer")(pipe.tokenizer, 1)
    assert "config.json" in hub.repositories["model", "anna/tokenizer"].files()


@pytest.mark.slow
def test_what_a_training_script_pushes(hub, tmp_path):
    from runs import classifier_run

    sample = push_while_training("anna/classifier")
    classifier_run(tmp_path / "run", epochs=2, sample_every=1, sample=sample, curves=True)
    (tmp_path / "run" / "rubbish.partial").touch()
    push_to_hub(tmp_path / "run", "anna/classifier", message="End")
    repository = hub.repositories["model", "anna/classifier"]
    assert repository.messages[1:] == ["Training, epoch 1", "Training, epoch 2", "End"]
    expected = {"config.json", "model.safetensors", "metrics.jsonl", "curves.png", "README.md", ".gitattributes"}
    assert set(repository.files()) == expected | CODE, "no checkpoints"


# --- a folder for the Hub --------------------------------------------------------------------------------------------


def test_a_folder_appears_whole_or_not_at_all(pipe, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        saved = save_for_hub(pipe, tmp_path / name)
        assert saved == tmp_path / name and (saved / "README.md").is_file() and (saved / "handler.py").is_file()
    with pytest.raises(HubError, match="directory='.*new' is in use: give a new or an empty one"):
        save_for_hub(pipe, tmp_path / "new")
    with pytest.raises(ValueError, match="song.wav' does not exist"):
        save_for_hub(pipe, tmp_path / "broken", song=tmp_path / "song.wav")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_what_is_no_whole_model_is_refused(pipe, folder, tmp_path):
    with pytest.raises(
        HubError, match="MegaDanceForMotionGeneration is not a whole model: give a MusicToDancePipeline"
    ):
        save_for_hub(pipe.model, tmp_path / "out")
    with pytest.raises(HubError, match="holds no model of this package"):
        open_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(HubError, match="model_type='bert'"):
        open_model(tmp_path)
    assert type(open_model(folder / "tokenizer")) is MegaDanceTokenizer
    tiny_classifier().save_pretrained(tmp_path / "classifier")
    assert type(open_model(tmp_path / "classifier")) is MegaDanceForGenreClassification


def test_the_python_in_a_card_is_right(hub, folder, song, tmp_path, monkeypatch):
    push_to_hub(folder, REPO)
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "song.mp3", seconds=1.0)
    card = hub.repositories["model", REPO].files()["README.md"].decode()
    blocks = [block.split("```")[0] for block in card.split("```python\n")[1:]]
    assert len(blocks) == 3
    assert all("trust_remote_code" in block for block in blocks[:2]), "run where the package is not, see below"
    exec(blocks[2], {})
    with av.open(tmp_path / "dance.mp4") as video:
        assert sum(1 for _ in video.decode(video=0)) == 30, "one second"


def test_metadata_that_the_hub_refuses_is_reported_before_anything_is_sent(hub, folder):
    with pytest.raises(HubError, match='repo=.*Invalid metadata in README.md.*"license" must be one of'):
        push_to_hub(folder, REPO, licence="mine")
    assert set(hub.repositories["model", REPO].files()) == {".gitattributes"} and "mine" not in LICENCES


def test_a_report_must_be_one(folder, tmp_path):
    for content, reason in (("{", "cannot be read"), ("{}", "is no report of `megadance evaluate`")):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(HubError, match=reason):
            save_for_hub(open_model(folder / "tokenizer"), tmp_path / "out", report=tmp_path / "report.json")


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_pushes_models_and_data_sets(hub, folder, report, tmp_path, capsys):  # noqa: F811
    reports.write_report(report, tmp_path / "report")
    file = str(tmp_path / "report" / "report.json")
    arguments = [
        "push",
        str(folder),
        REPO,
        "--private",
        "--licence",
        "mit",
        "--report",
        file,
        "--dataset",
        "a/b",
    ]
    assert cli.main(arguments) == 0, capsys.readouterr().err
    assert capsys.readouterr().out == f"pushed to {hub.url}/{REPO}\n"
    repository = hub.repositories["model", REPO]
    facts = metadata(repository.files()["README.md"].decode())
    assert repository.private and facts["license"] == "mit" and facts["datasets"] == ["a/b"] and facts["model-index"]
    assert {"sample.mp4", "sample.png"} <= set(repository.files())
    assert cli.main(["push", str(folder), REPO, "--no-sample", "--revision", "plain"]) == 0
    assert "sample.mp4" not in repository.files("plain")
    capsys.readouterr()
    assert cli.main(["push", str(save_tiny_data(tmp_path / "set")), "anna/set"]) == 0
    assert capsys.readouterr().out == f"pushed to {hub.url}/datasets/anna/set (private)\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "is no folder"), ("empty", "holds no model of this package"), ("set/../x..y", "is no folder")],
)
def test_mistakes_of_the_command_are_one_line(tmp_path, capsys, name, message):
    (tmp_path / "empty").mkdir()
    assert cli.main(["push", str(tmp_path / name), REPO]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("megadance push: error: ") and message in errors and errors.count("\n") == 1


# --- before anything slow, and without doing anything -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("repo", "message"),
    [("anna/x..y", "is no name of a repository"), ("anna/x", "the Hub cannot be reached")],
)
def test_the_hub_is_asked_before_anything_slow(hub, folder, tmp_path, monkeypatch, capsys, repo, message):
    """Neither is a model opened and danced with, nor a data set drawn or prepared."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN")  # without a login, the network is checked first
    slow = []
    monkeypatch.setattr("megadance_hf.hub.push.open_model", slow.append)
    monkeypatch.setattr("megadance_hf.hub.datasets.iter_prepared", slow.append)
    made = save_tiny_data(tmp_path / "set")
    for words in (
        ["push", folder, repo],
        ["push", made, repo],
        ["prepare", "synthetic", tmp_path / "new", "--push", repo],
    ):
        assert cli.main([*map(str, words)]) == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1 and f"repo='{repo}'" in errors and message in errors
    assert slow == [] and not (tmp_path / "new").exists()


def test_without_a_login(hub, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="the Hub does not know you .*; log in with `hf auth login`"):
        push_to_hub(folder, REPO)


def test_a_dry_run_of_a_model_shows_what_would_go(hub, folder, capsys):
    assert cli.main(["push", str(folder), REPO, "--no-sample", "--dry-run"]) == 0
    first, *files, total = capsys.readouterr().out.splitlines()
    assert first == f"would upload to the model repository {REPO}:" and hub.requests == []
    push_to_hub(folder, REPO)
    sent = hub.repositories["model", REPO].files()
    assert {line.split()[0] for line in files} == set(sent) - {".gitattributes"}
    sizes = {line.split()[0]: " ".join(line.split()[1:]) for line in files}
    assert sizes["requirements.txt"] == f"{len(sent['requirements.txt'])} bytes"
    assert total.split()[:2] == [str(len(files)), "files,"]


def test_a_dry_run_of_a_data_set_shows_what_would_go(hub, tmp_path, capsys):
    made = save_tiny_data(tmp_path / "set")
    assert cli.main(["push", str(made), "anna/set", "--dry-run"]) == 0
    first, *files, _ = capsys.readouterr().out.splitlines()
    assert first == "would upload to the data set repository anna/set (private):" and hub.requests == []
    names = {"README.md", "info.json", "train.parquet", "test.parquet", "sample.mp4", "sample.png"}
    assert {line.split()[0] for line in files} == names
    assert cli.main(["prepare", "synthetic", str(tmp_path / "new"), "--dry-run"]) == 2
    assert "argument --dry-run: it is about --push REPO" in capsys.readouterr().err


def test_options_of_models_are_not_passed_over_for_data_sets(tmp_path, capsys):
    made = save_tiny_data(tmp_path / "set")
    assert cli.main(["push", str(made), "anna/set", "--licence", "mit"]) == 2
    assert "argument --licence: " in (errors := capsys.readouterr().err) and "is a data set" in errors
