"""Configurations: defaults, switches, validation, save and load."""

import math

import pytest
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf import AISTPP_GENRES, FINEDANCE_GENRES, MegaDanceConfig, MegaDanceTokenizerConfig
from megadance_hf.modeling.genres_megadance import GenreError, match_genre

pytestmark = pytest.mark.versions


def test_defaults_are_the_full_size_of_the_paper():
    tokenizer, generator = MegaDanceTokenizerConfig(), MegaDanceConfig()
    assert tokenizer.codebook_size == generator.codebook_size == 7 * 5 * 5 * 5 * 5
    assert tokenizer.frames_per_code == generator.frames_per_code == 8
    assert tokenizer.fps == generator.fps == 30
    assert (tokenizer.velocity_weight, tokenizer.acceleration_weight) == (0.5, 0.25)
    assert (generator.hidden_size, generator.num_hidden_layers, generator.num_attention_heads) == (512, 6, 8)
    assert (generator.context_codes, generator.slide_codes, generator.training_codes) == (22, 8, 30)
    assert generator.time_step_rank == 32 and generator.inner_size == 1024
    assert generator.genres == list(FINEDANCE_GENRES) == generator.built_genres


def test_genre_lists():
    assert len(set(FINEDANCE_GENRES)) == 16 and len(set(AISTPP_GENRES)) == 10
    assert FINEDANCE_GENRES[0] == "Dai" and FINEDANCE_GENRES[6] == "Popping" and FINEDANCE_GENRES[15] == "DunHuang"


def test_genres_as_labels():
    config = MegaDanceConfig(id2label={0: "waltz", 1: "rumba"})
    assert config.genres == ["waltz", "rumba"]
    assert config.label2id == {"waltz": 0, "rumba": 1}
    assert MegaDanceConfig(label2id={"b": 0, "a": 1}).genres == ["b", "a"]


def test_stale_label2id_cannot_contradict():
    config = MegaDanceConfig(id2label={0: "waltz", 1: "rumba"}, label2id={"waltz": 1, "rumba": 0})
    assert config.label2id == {"waltz": 0, "rumba": 1}


def test_active_genres_keep_their_ids():
    config = MegaDanceConfig(active_genres=("Popping", "Dai"))
    assert config.built_genres == ["Popping", "Dai"]
    assert len(config.genres) == 16 and config.label2id["Popping"] == 6


def test_paper_and_released_switches_differ():
    paper, released = MegaDanceConfig.paper(), MegaDanceConfig.released()
    assert (paper.expert_composition, released.expert_composition) == ("parallel", "sequential")
    assert (paper.genre_embedding, released.genre_embedding) == (True, False)
    assert (paper.music_lookahead, released.music_lookahead) == (1, 0)
    assert (paper.mlp_activation, released.mlp_activation) == ("gelu", "none")
    assert (paper.dropout, released.dropout) == (0.25, 0.4)
    assert MegaDanceConfig.paper(dropout=0.1).dropout == 0.1
    paper, released = MegaDanceTokenizerConfig.paper(), MegaDanceTokenizerConfig()
    assert (paper.bound, released.bound) == ("sigmoid", "tanh")
    assert (paper.codec, released.codec) == ("plain", "residual")
    assert (paper.joint_loss_root, released.joint_loss_root) == ("integrated", "velocity")


def test_arrangements_have_names():
    made = {
        "paper": MegaDanceConfig.paper(),
        "released_2025": MegaDanceConfig.released_2025(),
        "released_2026": MegaDanceConfig.released_2026(),
    }
    for name, config in made.items():
        assert config.arrangement == name
    assert MegaDanceConfig.released(hidden_size=64).arrangement == "released_2025"
    assert (
        MegaDanceConfig.released_2026(num_hidden_layers=2, levels=[3, 5], codebook_size=15).arrangement
        == "released_2026"
    )
    assert MegaDanceConfig.paper(use_mamba=False).arrangement == "own"
    assert MegaDanceConfig.released_2026(level_decoding="sequential").arrangement == "own"
    assert MegaDanceConfig.released_2025(norm_per_stream=True).arrangement == "own"
    new = made["released_2026"]
    assert (new.num_hidden_layers, new.dropout, new.levels) == (8, 0.4, [7, 5, 5, 5, 5])
    assert made["paper"].levels is None


def test_music_step_size_follows_the_reduction():
    assert MegaDanceConfig(music_reduction="stride").music_step_size == 35
    assert MegaDanceConfig(music_reduction="mean").music_step_size == 35
    assert MegaDanceConfig(music_reduction="stack").music_step_size == 280
    assert MegaDanceConfig(music_reduction="stack", music_columns=[32, 33], rhythm_size=8).music_step_size == 6 * 8
    assert MegaDanceConfig(rhythm_size=8).music_step_size == 39


@given(
    levels=st.lists(st.integers(1, 4).map(lambda n: 2 * n + 1), min_size=1, max_size=6), downsamples=st.integers(1, 5)
)
def test_sizes_that_follow(levels, downsamples):
    config = MegaDanceTokenizerConfig(levels=levels, num_downsamples=downsamples)
    assert config.codebook_size == math.prod(levels)
    assert config.frames_per_code == 2**downsamples


@pytest.mark.parametrize(
    "config",
    [
        MegaDanceTokenizerConfig(levels=(5, 3), bound="sigmoid", rest_offsets=[[0.0, 0.1, 0.2]] * 24),
        MegaDanceConfig(
            id2label={0: "waltz", 1: "rumba"}, active_genres=["rumba"], music_reduction="stack", dropout=0.1
        ),
    ],
    ids=["tokenizer", "generator"],
)
def test_save_and_load(config, tmp_path):
    config.save_pretrained(tmp_path)
    again = type(config).from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    if isinstance(config, MegaDanceConfig):
        assert again.id2label == {0: "waltz", 1: "rumba"}  # JSON turns the ids into strings; they come back as numbers


@pytest.mark.parametrize(
    ("config_class", "values", "words"),
    [
        (MegaDanceTokenizerConfig, {"levels": [8, 5]}, "levels.*odd"),
        (MegaDanceTokenizerConfig, {"levels": [1]}, "levels"),
        (MegaDanceTokenizerConfig, {"levels": []}, "levels"),
        (MegaDanceTokenizerConfig, {"quantizer": "lfq"}, "quantizer"),
        (MegaDanceTokenizerConfig, {"bound": "relu"}, "bound"),
        (MegaDanceTokenizerConfig, {"hidden_size": 0}, "hidden_size=0"),
        (MegaDanceTokenizerConfig, {"hidden_size": "wide"}, "hidden_size"),
        (MegaDanceTokenizerConfig, {"velocity_weight": -1.0}, "velocity_weight=-1.0"),
        (MegaDanceTokenizerConfig, {"vq_decay": 1.0}, "vq_decay"),
        (MegaDanceTokenizerConfig, {"rest_offsets": [[0.0, 0.0, 0.0]] * 22}, "rest_offsets"),
        (MegaDanceConfig, {"hidden_size": 30, "num_attention_heads": 4}, "hidden_size=30.*multiple"),
        (MegaDanceConfig, {"dropout": 1.0}, "dropout=1.0"),
        (MegaDanceConfig, {"music_lookahead": 2}, "music_lookahead=2"),
        (MegaDanceConfig, {"training_codes": 1}, "training_codes=1"),
        (MegaDanceConfig, {"expert_composition": "both"}, "expert_composition"),
        (MegaDanceConfig, {"code_head": "levels"}, "code_head"),
        (MegaDanceConfig, {"code_head": "factorised", "codebook_size": 15}, "levels=None.*needs the tokenizer's"),
        (MegaDanceConfig, {"code_head": "factorised", "levels": [7, 5]}, "levels=.*product is codebook_size=4375"),
        (MegaDanceConfig, {"code_head": "factorised", "levels": [4375, 1]}, "levels=.*numbers of 2 or more"),
        (MegaDanceConfig, {"levels": [7, 5, 5, 5, 5]}, "levels=.*leave it out"),
        (MegaDanceConfig, {"level_decoding": "sequential"}, "level_decoding='sequential'.*factorised"),
        (MegaDanceConfig, {"use_mamba": False, "mamba_placement": "layers"}, "mamba_placement='layers'.*no Mamba"),
        (MegaDanceConfig, {"use_universal_experts": False, "use_genre_experts": False}, "use_universal_experts"),
        (MegaDanceConfig, {"id2label": {0: "waltz", 1: "waltz"}}, "id2label"),
        (MegaDanceConfig, {"id2label": {1: "waltz", 2: "rumba"}}, "id2label.*0 to 1"),
        (MegaDanceConfig, {"id2label": {}}, "id2label"),
        (MegaDanceConfig, {"active_genres": ["Tango"]}, "active_genres='Tango'.*Popping"),
        (MegaDanceConfig, {"active_genres": []}, "active_genres"),
    ],
)
def test_impossible_values_are_named(config_class, values, words):
    with pytest.raises(StrictDataclassError, match=f"(?s){words}"):
        config_class(**values)


# --- genre names -----------------------------------------------------------------------------------------------------


@given(st.sampled_from(FINEDANCE_GENRES + AISTPP_GENRES), st.data())
def test_capitals_spaces_and_hyphens_do_not_matter(genre, data):
    spelled = "".join(
        data.draw(st.sampled_from([letter.lower(), letter.upper()])) + data.draw(st.sampled_from(["", "-", " "]))
        for letter in genre
    )
    assert match_genre(spelled, FINEDANCE_GENRES + AISTPP_GENRES) == genre


BALLROOM = ("chacha", "rumba", "waltz")


def test_unknown_genre_lists_all_and_the_nearest():
    with pytest.raises(
        GenreError, match=r"genre='waltzz' is unknown: did you mean 'waltz'\? The genres are chacha, rumba, waltz"
    ):
        match_genre("waltzz", BALLROOM)
    with pytest.raises(GenreError) as caught:
        match_genre("polka", BALLROOM)
    assert "did you mean" not in str(caught.value) and "chacha, rumba, waltz" in str(caught.value)
    for nothing in ("", "-", None, 3):
        with pytest.raises(GenreError):
            match_genre(nothing, BALLROOM)
