"""One file per genre: writing, reading, adding genres."""

import json

import pytest
import torch
from helpers import GENRES, tiny_generator

from megadance_hf.modeling.checkpoints_megadance import genre_of
from megadance_hf.modeling.genres_megadance import GenreError
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration, MegaDanceModel


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(3)
    model = tiny_generator(num_hidden_layers=2)
    model.generation_config.start_codes = {"waltz": [[1, 2]]}
    model.save_pretrained(tmp_path / "model", shard_by_genre=True)
    return tmp_path / "model"


def outputs(model, genre):
    torch.manual_seed(0)
    codes = torch.randint(27, (1, 6))
    with torch.no_grad():
        return model(torch.randn(1, 48, 35), codes, codes, torch.tensor([GENRES.index(genre)])).upper_logits


def test_genre_of_a_tensor():
    assert genre_of("model.layers.1.genre_experts.genre_pop_up.mlp.fc1.weight") == "genre_pop_up"
    assert genre_of("model.layers.1.universal_expert.mlp.fc1.weight") is None


def test_files_and_their_tensors(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "model-shared.safetensors",
    } | {f"model-genre_{genre}.safetensors" for genre in GENRES}
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for name, file in index["weight_map"].items():
        assert file == f"model-{genre_of(name) or 'shared'}.safetensors"
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["MegaDanceForMotionGeneration"]


def test_the_folder_loads_as_any_sharded_model(folder, tmp_path):
    whole = MegaDanceForMotionGeneration.from_pretrained(folder).eval()
    whole.save_pretrained(tmp_path / "plain")
    plain = MegaDanceForMotionGeneration.from_pretrained(tmp_path / "plain").eval()
    for genre in GENRES:
        assert torch.equal(outputs(whole, genre), outputs(plain, genre))
    assert whole.generation_config.start_codes == {"waltz": [[1, 2]]}


def test_one_genre_needs_its_own_files_only(folder):
    expected = outputs(MegaDanceForMotionGeneration.from_pretrained(folder).eval(), "rumba")
    for genre in ("chacha", "waltz"):
        (folder / f"model-genre_{genre}.safetensors").unlink()  # as if never downloaded
    model = MegaDanceForMotionGeneration.from_pretrained(folder, active_genres=["Rumba"]).eval()
    assert model.config.built_genres == ["rumba"] and torch.equal(outputs(model, "rumba"), expected)
    assert model.generation_config.start_codes == {"waltz": [[1, 2]]}
    assert MegaDanceModel.from_pretrained(folder, active_genres=["rumba"]).config.built_genres == ["rumba"]


@pytest.mark.parametrize("shard_by_genre", [True, False])
def test_genres_are_added_to_a_loaded_model(folder, tmp_path, shard_by_genre):
    whole = MegaDanceForMotionGeneration.from_pretrained(folder).eval()
    whole.save_pretrained(tmp_path / "source", shard_by_genre=shard_by_genre)
    model = MegaDanceForMotionGeneration.from_pretrained(tmp_path / "source", active_genres=["rumba"]).eval()
    with pytest.raises(ValueError, match="not among the genres this model was built with"):
        outputs(model, "waltz")
    model.load_genres(tmp_path / "source", ["Waltz", "rumba"])
    assert model.config.built_genres == ["rumba", "waltz"]
    for genre in ("rumba", "waltz"):
        assert torch.equal(outputs(model, genre), outputs(whole, genre))
    model.save_pretrained(tmp_path / "two", shard_by_genre=True)
    again = MegaDanceForMotionGeneration.from_pretrained(tmp_path / "two").eval()
    assert torch.equal(outputs(again, "waltz"), outputs(whole, "waltz"))


def test_unknown_and_missing_genres_are_errors(folder):
    with pytest.raises(GenreError, match="tango.*The genres are chacha, rumba, waltz"):
        MegaDanceForMotionGeneration.from_pretrained(folder, active_genres=["tango"])
    model = MegaDanceForMotionGeneration.from_pretrained(folder, active_genres=["rumba"])
    with pytest.raises(GenreError, match="tango"):
        model.load_genres(folder, ["tango"])
    model.save_pretrained(folder.parent / "one", shard_by_genre=True)
    with pytest.raises(ValueError, match="has no such expert"):
        model.load_genres(folder.parent / "one", ["waltz"])
    assert model.config.built_genres == ["rumba"]
