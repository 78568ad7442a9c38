"""A damaged model folder is refused before it costs memory or time, in one line that names the file."""

import json
import resource
import shutil
import time

import pytest
import torch
from helpers import save_tiny_model, tiny_generator
from safetensors.torch import load_file, save_file

from megadance_hf.modeling.checkpoints_megadance import read_experts
from megadance_hf.modeling.configuration_megadance import MegaDanceClassifierConfig, MegaDanceConfig
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.folders_megadance import check_config, weights_of
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration, MegaDanceModel
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
from megadance_hf.pipeline import MusicToDancePipeline, describe_model

pytestmark = pytest.mark.versions

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer/config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def with_values(file, **values):
    def change(folder):
        content = json.loads((folder / file).read_text())
        content = {name: value for name, value in {**content, **values}.items() if value is not ...}
        (folder / file).write_text(json.dumps(content))

    return file, change


def with_text(file, text):
    return file, lambda folder: (folder / file).write_bytes(text)


def with_weights(change, file=WEIGHTS):
    def rewrite(folder):
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file, metadata={"format": "pt"})

    return file, rewrite


def sharded(change):
    def rewrite(folder):
        (folder / WEIGHTS).unlink()
        tiny_generator().save_pretrained(folder, shard_by_genre=True)
        index = json.loads((folder / INDEX).read_text())
        change(index, folder)
        (folder / INDEX).write_text(json.dumps(index))

    return INDEX, rewrite


def a_nan(tensors):
    tensors["model.upper_embedding.weight"][0, 0] = torch.nan


DAMAGES = {
    # the configuration
    "no JSON": with_text(CONFIG, b"{"),
    "no text": with_text(CONFIG, b"\xff\xfe\x00"),
    "a list": with_text(CONFIG, b"[1]"),
    "very deep": with_text(CONFIG, b"[" * 100_000),
    "without heads": with_values(CONFIG, num_attention_heads=...),
    "without genres": with_values(CONFIG, id2label=...),
    "a billion layers": with_values(CONFIG, num_hidden_layers=10**9),
    "more layers than weights": with_values(CONFIG, num_hidden_layers=200),
    "more genres than weights": with_values(CONFIG, id2label={str(i): f"g{i}" for i in range(9999)}),
    "a billion wide": with_values(CONFIG, hidden_size=10**9),
    "wider than the weights": with_values(CONFIG, intermediate_size=100_000),
    "fps of 1e19": with_values(CONFIG, fps=1e19),
    "fps of a large whole number": with_values(CONFIG, fps=10**19),
    "text for a number": with_values(CONFIG, hidden_size="16"),
    "a method": with_values(CONFIG, to_dict=5),
    "a property": with_values(CONFIG, genres=["x"]),
    "a genre that is a list": with_values(CONFIG, id2label={"0": ["chacha"], "1": "rumba", "2": "waltz"}),
    "a genre of a million letters": with_values(CONFIG, id2label={"0": "a" * 10**6, "1": "rumba", "2": "waltz"}),
    "no such type of numbers": with_values(CONFIG, dtype="int8"),
    "the tokenizer's": with_values(TOKENIZER, num_downsamples=40),
    "the tokenizer's levels": with_values(TOKENIZER, levels=[99999, 99999]),
    "the tokenizer without levels": with_values(TOKENIZER, levels=...),
    # the others
    "generation is no JSON": with_text(GENERATION, b"{,"),
    "generation is a list": with_text(GENERATION, b"[]"),
    "start codes beyond the codebook": with_values(GENERATION, start_codes={"waltz": [[1, 27]]}),
    "start codes that are numbers": with_values(GENERATION, start_codes={"waltz": 7}),
    "start codes of no genre": with_values(GENERATION, start_codes={"tango": [[1, 2]]}),
    "a mode": with_values(GENERATION, mode="fast"),
    "a temperature": with_values(GENERATION, temperature=-1.0),
    "a processor": with_text("processor_config.json", b"\x00"),
    "an extractor": with_text("preprocessor_config.json", b"{]"),
    "an extractor of no rate": with_values("preprocessor_config.json", sampling_rate=0),
    "an extractor of another rate": with_values("preprocessor_config.json", hop_length=256),
    "an extractor of text": with_values("preprocessor_config.json", sampling_rate="fast"),
    # the weights
    "cut": (WEIGHTS, lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9])),
    "empty": with_text(WEIGHTS, b""),
    "NaN": with_weights(a_nan),
    "infinite": with_weights(lambda tensors: tensors["model.upper_embedding.weight"].fill_(torch.inf)),
    "no spread": with_weights(lambda tensors: tensors["motion_std"].zero_(), "tokenizer/" + WEIGHTS),
    "another shape": with_weights(lambda tensors: tensors.update({"model.music_std": torch.ones(36)})),
    "an index that is no object": sharded(lambda index, folder: index.update(weight_map=[1])),
    "an index that leads away": sharded(lambda index, folder: index["weight_map"].update(x="../../etc/passwd")),
    "an index without its file": sharded(lambda index, folder: (folder / "model-shared.safetensors").unlink()),
    "an index of others": sharded(lambda index, folder: index["weight_map"].update(x="model-shared.safetensors")),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_errors_about_a_damaged_folder_name_the_file(folder, tmp_path, damage):
    shutil.copytree(folder, tmp_path / "model")
    file, change = DAMAGES[damage]
    change(tmp_path / "model")
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError) as caught:
        MusicToDancePipeline.from_pretrained(tmp_path / "model", device="cpu")
    said = str(caught.value)
    missing = "model-shared.safetensors" if damage == "an index without its file" else file
    assert missing.rpartition("/")[2] in said and str(tmp_path / "model") in said
    assert "\n" not in said and len(said) < 900
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "kilobytes"


@pytest.mark.parametrize("damage", ["a billion layers", "more genres than weights", "the tokenizer's", "no JSON"])
def test_describe_model_names_the_damaged_file_too(folder, tmp_path, damage):
    shutil.copytree(folder, tmp_path / "model")
    file, change = DAMAGES[damage]
    change(tmp_path / "model")
    with pytest.raises(ModelError, match=file):
        describe_model(tmp_path / "model")


def test_each_class_checks_its_folder(folder, tmp_path):
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    MegaDanceForGenreClassification(MegaDanceClassifierConfig(**config)).save_pretrained(tmp_path / "classifier")
    for cls, place in (
        (MegaDanceForMotionGeneration, folder),
        (MegaDanceTokenizer, folder / "tokenizer"),
        (MegaDanceForGenreClassification, tmp_path / "classifier"),
    ):
        copy = shutil.copytree(place, tmp_path / cls.__name__)
        cls.from_pretrained(copy)
        content = json.loads((copy / CONFIG).read_text())
        (copy / CONFIG).write_text(json.dumps({**content, "fps": 10**7}))
        with pytest.raises(
            ModelError, match=r"config\.json cannot be read .*fps=10000000 is not possible: use 1 to 1000"
        ):
            cls.from_pretrained(copy)
        (copy / CONFIG).write_text(json.dumps(content))
        (copy / WEIGHTS).write_bytes(b"\xff" * 100)
        with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
            cls.from_pretrained(copy)


def test_one_genre_of_a_damaged_folder(folder, tmp_path):
    """The folder that is made up for one genre is named nowhere: it is gone when the message is read."""
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / WEIGHTS).unlink()
    tiny_generator().save_pretrained(tmp_path / "model", shard_by_genre=True)
    shard = tmp_path / "model" / "model-genre_waltz.safetensors"
    shard.write_bytes(shard.read_bytes()[:-50])
    MegaDanceForMotionGeneration.from_pretrained(tmp_path / "model", active_genres=["rumba"])
    with pytest.raises(ModelError, match=str(shard)):
        MegaDanceForMotionGeneration.from_pretrained(tmp_path / "model", active_genres=["waltz"])
    with pytest.raises(ModelError, match=str(shard)):
        read_experts(tmp_path / "model", ["genre_waltz"])


def test_fields_that_are_not_required_may_differ(folder, tmp_path):
    """A base model of a whole checkpoint; another configuration in which sizes may differ."""
    MegaDanceModel.from_pretrained(folder)
    config = MegaDanceConfig.from_pretrained(folder, output_hidden_size=8)
    model = MegaDanceForMotionGeneration.from_pretrained(folder, config=config, ignore_mismatched_sizes=True)
    assert model.config.output_hidden_size == 8
    with pytest.raises(ModelError, match="has other sizes"):
        MegaDanceForMotionGeneration.from_pretrained(folder, config=config)


def test_saved_models_pass_the_checks(folder):
    config = check_config(MegaDanceConfig, folder)
    assert config.to_dict() == MegaDanceConfig.from_pretrained(folder).to_dict()
    assert set(weights_of(folder)) == set(tiny_generator().state_dict())


@pytest.mark.parametrize(
    "damage",
    [
        with_text("processor_config.json", b"[]"),
        with_values("processor_config.json", genres=5),
        with_values("processor_config.json", genres=["chacha", "rumba"]),
        with_values("processor_config.json", genres=["waltz", "rumba", "chacha"]),
        with_values("processor_config.json", frames_per_code=4),
        with_values("processor_config.json", frames_per_code="8"),
    ],
)
def test_a_processor_of_another_model(folder, tmp_path, damage):
    """Another order of the genres would be another genre danced, and nothing said."""
    shutil.copytree(folder, tmp_path / "model")
    MusicToDancePipeline.from_pretrained(folder, device="cpu").processor.save_pretrained(tmp_path / "model")
    MegaDanceProcessor.from_pretrained(tmp_path / "model")
    damage[1](tmp_path / "model")
    with pytest.raises(ModelError, match=r"model='.*model'.*processor_config\.json"):
        MegaDanceProcessor.from_pretrained(tmp_path / "model")
