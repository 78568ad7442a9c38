"""transformers' Auto classes and the package's own give the same models."""

import subprocess
import sys
import warnings

import pytest
import torch
from helpers import save_tiny_model, tiny_generator, tiny_tokenizer
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

import megadance_hf.auto  # noqa: F401  (registers)
from megadance_hf import MegaDanceForMotionGeneration, MegaDanceTokenizer


@pytest.mark.versions
def test_auto_model_and_own_class_agree_bit_for_bit_and_silently(tmp_path):
    folder = save_tiny_model(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models = [cls.from_pretrained(folder).eval() for cls in (MegaDanceForMotionGeneration, AutoModel)]
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
def test_the_other_auto_classes(tmp_path):
    folder = save_tiny_model(tmp_path)
    assert AutoConfig.from_pretrained(folder).genres == ["chacha", "rumba", "waltz"]
    assert type(AutoFeatureExtractor.from_pretrained(folder)).__name__ == "MegaDanceFeatureExtractor"
    assert type(AutoModel.from_pretrained(folder / "tokenizer")) is MegaDanceTokenizer
    codes = torch.randint(0, 27, (1, 4))
    loaded = AutoModel.from_pretrained(folder / "tokenizer").eval()
    assert loaded.decode(codes, codes).shape == tiny_tokenizer().decode(codes, codes).shape


def test_a_public_name_registers_by_itself():
    code = "from megadance_hf import MegaDanceConfig; from transformers import AutoConfig; AutoConfig.for_model('megadance')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_nothing_is_said_while_loading(tmp_path):
    folder = save_tiny_model(tmp_path)
    code = f"import megadance_hf.auto; from transformers import AutoModel; AutoModel.from_pretrained({str(folder)!r})"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.replace("\r", "\n").splitlines() if line and "Loading weights" not in line]
    assert not said
