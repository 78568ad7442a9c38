"""A few dances of a small model are computed with one thread, whatever torch has; everything else with as many as there are."""

import pytest
import torch
from helpers import tiny_generator, tiny_tokenizer
from transformers import LogitsProcessor

from megadance_hf import MegaDanceFeatureExtractor, MegaDanceProcessor
from megadance_hf.modeling import processing_megadance, streaming_megadance
from megadance_hf.modeling.streaming_megadance import CodeStream, PoseStream
from megadance_hf.modeling.threads_megadance import MANY, WIDE

pytestmark = pytest.mark.versions


class Threads(LogitsProcessor):
    """What torch has at each code."""

    def __init__(self):
        self.found = set()

    def __call__(self, codes, scores):
        self.found.add(torch.get_num_threads())
        return scores


@pytest.fixture(autouse=True)
def two_threads():
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2  # whatever was computed
    torch.set_num_threads(1)


def features_of(model, dances=1, codes=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(
        dances, codes * model.config.frames_per_code, model.config.music_feature_size, generator=generator
    )


@pytest.mark.parametrize(
    ("sizes", "dances", "copies", "expected"),
    [({}, 1, 1, 1), ({}, 2, 4, 1), ({}, MANY, 1, 2), ({}, 3, 3, 2), ({"hidden_size": WIDE}, 1, 1, 2)],
    ids=["one dance", "two songs, four dances each", "many songs", "many dances", "wide"],
)
def test_threads_of_a_dance(sizes, dances, copies, expected):
    model, threads = tiny_generator(**sizes), Threads()
    # compiled loops set threads themselves
    options = {"num_return_sequences": copies, "do_sample": True, "seed": 0, "backend": "torch"}
    inputs = {"input_features": features_of(model, dances), "genre_ids": torch.zeros(dances, dtype=torch.long)}
    output = model.generate(**inputs, **options, logits_processor=[threads])
    assert threads.found == {expected}
    torch.set_num_threads(1)
    alone = model.generate(**inputs, **options)
    torch.set_num_threads(2)
    assert torch.equal(output.upper_codes, alone.upper_codes)


def test_threads_after_an_error():
    """The fixture looks at what there is in the end."""
    model = tiny_generator()

    def fail(codes, scores):
        raise RuntimeError(torch.get_num_threads())

    with pytest.raises(RuntimeError, match="^1$"):
        model.generate(features_of(model), torch.zeros(1, dtype=torch.long), logits_processor=[fail])


def test_threads_of_score():
    model, found = tiny_generator(), []
    model.base_model.layers[0].register_forward_pre_hook(lambda *_: found.append(torch.get_num_threads()))
    for dances, expected in ((1, 1), (MANY, 2)):
        found.clear()
        codes = torch.zeros(dances, 4, dtype=torch.long)
        model.score(features_of(model), torch.zeros(1, dtype=torch.long), codes, codes, backend="torch")
        assert set(found) == {expected}


def test_threads_of_poses(monkeypatch):
    tokenizer, found = tiny_tokenizer(), []
    clean_motion = processing_megadance.clean_motion

    def clean(*arguments):
        found.append(torch.get_num_threads())
        return clean_motion(*arguments)

    monkeypatch.setattr(processing_megadance, "clean_motion", clean)
    codes = torch.zeros(2, 4, dtype=torch.long)
    processor = MegaDanceProcessor(MegaDanceFeatureExtractor())
    assert len(processor.post_process_motion((codes, codes), tokenizer)) == 2
    assert found == [1, 1]


def test_threads_of_a_stream(monkeypatch):
    model, tokenizer, found = tiny_generator(), tiny_tokenizer(), []
    choose, to_poses = streaming_megadance.choose, streaming_megadance.motion_to_poses
    for name, function in (("choose", choose), ("motion_to_poses", to_poses)):

        def watched(*arguments, function=function, name=name):
            found.append((name, torch.get_num_threads()))
            return function(*arguments)

        monkeypatch.setattr(streaming_megadance, name, watched)
    stream = CodeStream(model, 0, seed=0)
    stream.extend(features_of(model, codes=1)[0], None)
    PoseStream(tokenizer).push(stream.codes, model.config.frames_per_code)
    assert found == [("choose", 1), ("motion_to_poses", 1)]
