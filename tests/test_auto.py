"""transformers' Auto classes and the package's own give the same models."""

import subprocess
import sys
import warnings

import pytest
import torch
from helpers import save_tiny_model, tiny_generator, tiny_tokenizer
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor

import megadance_hf.auto  # noqa: F401  (registers)
from megadance_hf import (
    MegaDanceClassifierConfig,
    MegaDanceForGenreClassification,
    MegaDanceForMotionGeneration,
    MegaDanceModel,
    MegaDanceProcessor,
    MegaDanceTokenizer,
    find_model,
)


@pytest.mark.versions
def test_auto_class_and_own_class_agree_bit_for_bit_and_silently(tmp_path):
    folder = save_tiny_model(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models = [cls.from_pretrained(folder).eval() for cls in (MegaDanceForMotionGeneration, AutoModelForCausalLM)]
    assert [type(model) for model in models] == [MegaDanceForMotionGeneration] * 2
    torch.manual_seed(0)
    original = tiny_generator()
    features, codes, genres = torch.randn(2, 80, 35), torch.randint(0, 27, (2, 10)), torch.tensor([0, 2])
    outputs = [model(features, codes, codes, genres) for model in (*models, original)]
    for output in outputs[1:]:
        assert torch.equal(output.upper_logits, outputs[0].upper_logits)
        assert torch.equal(output.lower_logits, outputs[0].lower_logits)
    again = [model.generate(features, genres, do_sample=True, seed=5).upper_codes for model in models]
    assert torch.equal(*again)


@pytest.mark.versions
def test_auto_model_has_no_head(tmp_path):
    folder = save_tiny_model(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert type(model) is MegaDanceModel and not info["missing_keys"] and not info["unexpected_keys"]
    whole = MegaDanceForMotionGeneration.from_pretrained(folder)
    codes, genres = torch.randint(0, 27, (2, 4)), torch.tensor([0, 2])
    outputs = [one(torch.ones(2, 32, 35), codes, codes, genres).last_hidden_state for one in (model, whole.model)]
    assert torch.equal(*outputs)
    with pytest.raises(ValueError, match="no head to generate with: load .* AutoModelForCausalLM"):
        model.generate(torch.ones(2, 32, 35), genres)


@pytest.mark.versions
def test_the_other_auto_classes(tmp_path):
    folder = save_tiny_model(tmp_path)
    assert AutoConfig.from_pretrained(folder).genres == ["chacha", "rumba", "waltz"]
    assert type(AutoFeatureExtractor.from_pretrained(folder)).__name__ == "MegaDanceFeatureExtractor"
    assert type(AutoModel.from_pretrained(folder / "tokenizer")) is MegaDanceTokenizer
    codes = torch.randint(0, 27, (1, 4))
    loaded = AutoModel.from_pretrained(folder / "tokenizer").eval()
    assert loaded.decode(codes, codes).shape == tiny_tokenizer().decode(codes, codes).shape


def test_processors_by_every_way(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    for source in (folder, find_model(), find_model("ballroom")):
        processor = AutoProcessor.from_pretrained(source)
        assert type(processor) is MegaDanceProcessor
        assert processor.genres == AutoConfig.from_pretrained(source).genres
        assert type(AutoFeatureExtractor.from_pretrained(source)).__name__ == "MegaDanceFeatureExtractor"
        assert processor.motion_tokenizer.config.codebook_size == AutoConfig.from_pretrained(source).codebook_size
    processor.save_pretrained(tmp_path / "alone")  # and from what it saved, where there is nothing else
    again = AutoProcessor.from_pretrained(tmp_path / "alone")
    assert type(again) is MegaDanceProcessor and again.genres == processor.genres

    config = MegaDanceClassifierConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    MegaDanceForGenreClassification(config).save_pretrained(tmp_path / "classifier")
    assert type(AutoModel.from_pretrained(tmp_path / "classifier")) is MegaDanceForGenreClassification
    for place in (folder / "tokenizer", tmp_path / "classifier"):
        with pytest.raises(
            ValueError, match="which takes motion, not music: a processor comes from the folder of a"
        ) as caught:
            AutoProcessor.from_pretrained(place)
        assert "\n" not in str(caught.value) and str(place) in str(caught.value)


def test_a_public_name_registers_by_itself():
    code = "from megadance_hf import MegaDanceConfig; from transformers import AutoConfig; AutoConfig.for_model('megadance')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_nothing_is_said_while_loading(tmp_path):
    folder = save_tiny_model(tmp_path)
    code = f"import megadance_hf.auto, transformers; transformers.AutoModelForCausalLM.from_pretrained({str(folder)!r})"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.replace("\r", "\n").splitlines() if line and "Loading weights" not in line]
    assert not said
