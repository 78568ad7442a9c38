"""What is asked of a device without waiting; the late answers of a GPU, on a CPU that pretends to be slow to answer."""

import pytest
import torch
from helpers import Streamer, tiny_generator

from megadance_hf.modeling import host_megadance as host
from megadance_hf.modeling.host_megadance import NO_CODE_LEFT, NOT_FINITE, Faults, Streamed

pytestmark = pytest.mark.versions

INPUTS = {"input_features": torch.randn(2, 96, 35), "genre_ids": torch.tensor([0, 2])}


@pytest.fixture
def late(monkeypatch):
    monkeypatch.setattr(host, "answers_at_once", lambda device: False)


def generate(**options):
    torch.manual_seed(0)
    streamer = Streamer()
    model = tiny_generator(context_codes=4, slide_codes=2)
    options = {"do_sample": True, "seed": 1, "output_logits": True, "output_scores": True, **options}
    output = model.generate(**INPUTS, streamer=streamer, **options)
    assert streamer.ended
    return output, torch.cat(streamer.codes, dim=-1)


def stop_at(count):
    return [lambda codes, scores: torch.arange(len(codes)) % 2 + count <= codes.shape[1]]


@pytest.mark.parametrize("options", [{}, {"stopping_criteria": stop_at(6)}, {"stopping_criteria": stop_at(2)}])
def test_a_dance_is_the_same_whether_answers_come_late(monkeypatch, options):
    expected, expected_stream = generate(**options)
    monkeypatch.setattr(host, "answers_at_once", lambda device: False)
    output, stream = generate(**options)
    for name, value in expected.items():
        assert torch.equal(output[name], value), name
    assert torch.equal(stream, expected_stream)


def test_a_streamer_gets_codes_one_later(late):
    streamer = Streamer()
    streamed = Streamed(streamer)
    for number in range(3):
        streamed.put(torch.tensor(number))
        assert len(streamer.codes) == number
    streamed.end()
    assert torch.stack(streamer.codes).tolist() == [0, 1, 2]


def test_faults_are_raised_at_once_or_at_the_end(monkeypatch):
    with pytest.raises(ValueError, match="no code is left to choose"):
        Faults(torch.device("cpu")).look(NO_CODE_LEFT, torch.tensor(True))
    monkeypatch.setattr(host, "answers_at_once", lambda device: False)
    faults = Faults(torch.device("cpu"))
    for _ in range(10):
        faults.look(NO_CODE_LEFT, torch.tensor(False))
        faults.look(NOT_FINITE, torch.tensor(True))
        faults.check(at_end=False)
    with pytest.raises(ValueError, match="the scores of codes are NaN or infinite"):
        faults.check()
    with pytest.raises(ValueError, match="the scores of codes are NaN or infinite"):
        for _ in range(64):  # a long dance does not go on to its end
            faults.check(at_end=False)


def test_a_dance_without_codes_fails_late(late):
    with pytest.raises(ValueError, match="no code is left to choose"):
        generate(logits_processor=[lambda codes, scores: torch.full_like(scores, -torch.inf)])
