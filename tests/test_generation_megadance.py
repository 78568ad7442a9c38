"""generate(): windows, caches, sampling, prompts, lengths."""

import pytest
import torch
from helpers import Streamer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from megadance_hf.modeling import generation_megadance
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.experts_megadance import MegaDanceCache
from megadance_hf.modeling.generation_megadance import MODES, choose, draw, window_start
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

GENRES = ("Popping", "Wei", "Jazz")
CODES = 15
CONTEXT, SLIDE = 4, 3


def tiny_model(**overrides) -> MegaDanceForMotionGeneration:
    settings = {
        "codebook_size": CODES,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "state_size": 4,
        "music_hidden_size": 8,
        "output_hidden_size": 12,
        "id2label": dict(enumerate(GENRES)),
        "initializer_range": 0.4,
        "context_codes": CONTEXT,
        "slide_codes": SLIDE,
        "music_lookahead": 1,
        "music_reduction": "stack",
    }
    torch.manual_seed(1)
    return MegaDanceForMotionGeneration(MegaDanceConfig(**{**settings, **overrides})).eval()


MODEL = tiny_model()
MIXED = torch.tensor([2, 0, 1, 0])


def song(steps: int, batch: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, steps * 8 + 5, 35, generator=torch.Generator().manual_seed(seed))


def start(batch: int = 4, steps: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randint(CODES, (batch, steps), generator=generator) for name in ("upper_codes", "lower_codes")}


def assert_equal(one, other):
    assert torch.equal(one.upper_codes, other.upper_codes)
    assert torch.equal(one.lower_codes, other.lower_codes)


# -------------------------------------------------------------------------------------------------------------- windows


def test_windows_by_hand():
    def starts(mode, last):
        return [window_start(mode, index, 22, 8) for index in range(1, last)]

    assert starts("paper", 55) == [0] * 29 + [8] * 8 + [16] * 8 + [24] * 8 + [32]
    assert starts("released", 26) == [0] * 22 + [1, 2, 3]
    assert starts("stream", 100) == [0] * 99


@given(index=st.integers(1, 500), context=st.integers(1, 30), slide=st.integers(1, 12))
def test_paper_windows_keep_context_and_add_at_most_slide(index, context, slide):
    first = window_start("paper", index, context, slide)
    assert 0 <= first < index
    if first:
        assert context <= index - first < context + slide


@pytest.mark.parametrize("lookahead", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_every_code_is_what_a_fresh_forward_of_its_window_says(mode, lookahead):
    """The plain loop: one forward over the whole window for each code."""
    model = tiny_model(music_lookahead=lookahead)
    features, codes = song(15), start()
    upper, lower = codes["upper_codes"], codes["lower_codes"]
    with torch.no_grad():
        for index in range(1, 15):
            first = {"paper": 0 if index < 7 else (index - 4) // 3 * 3, "released": max(0, index - 4), "stream": 0}[
                mode
            ]
            window = features[:, first * 8 : (index + lookahead) * 8]
            logits = model(window, upper[:, first:], lower[:, first:], MIXED)
            upper = torch.cat((upper, logits.upper_logits[:, -1:].argmax(-1)), 1)
            lower = torch.cat((lower, logits.lower_logits[:, -1:].argmax(-1)), 1)
    result = model.generate(features, MIXED, mode=mode, do_sample=False, **codes)
    assert torch.equal(result.upper_codes, upper) and torch.equal(result.lower_codes, lower)
    assert result.lengths.tolist() == [15] * 4
    assert len(upper.unique()) > 3  # it would be easy to be right on a frozen dance


@pytest.mark.parametrize("tempo", ["free", "steady"])
@pytest.mark.parametrize("mode", MODES)
def test_the_rhythm_is_read_from_the_whole_song(mode, tempo):
    model = tiny_model(rhythm_size=8, rhythm_layers=3, rhythm_tempo=tempo, music_columns=[32, 33], music_to_codes=True)
    features, codes = song(15), start()
    whole = model.model.encode_rhythm(features[:, : 15 * 8])
    upper, lower = codes["upper_codes"], codes["lower_codes"]
    with torch.no_grad():
        for index in range(1, 15):
            first = window_start(mode, index, CONTEXT, SLIDE)
            heard = slice(first * 8, (index + 1) * 8)
            logits = model(features[:, heard], upper[:, first:], lower[:, first:], MIXED, rhythm=whole[:, heard])
            upper = torch.cat((upper, logits.upper_logits[:, -1:].argmax(-1)), 1)
            lower = torch.cat((lower, logits.lower_logits[:, -1:].argmax(-1)), 1)
    result = model.generate(features, MIXED, mode=mode, do_sample=False, **codes)
    assert torch.equal(result.upper_codes, upper) and torch.equal(result.lower_codes, lower)
    assert len(upper.unique()) > 3


def test_an_excerpt_can_be_given_the_rhythm_of_its_song():
    model = tiny_model(rhythm_size=8, rhythm_layers=3, music_columns=[], music_to_codes=True)
    features, codes = song(30), start()
    rhythm = model.model.encode_rhythm(features)
    piece = slice(8 * 9, 8 * 20)
    with torch.no_grad():
        logits = model(features[:, piece][:, :16], *codes.values(), MIXED, rhythm=rhythm[:, piece][:, :16]).upper_logits
    options = {"do_sample": True, "max_new_tokens": 1, "output_logits": True, "num_return_sequences": 2, **codes}
    options["genre_ids"] = MIXED
    found = model.generate(features[:, piece], rhythm=rhythm[:, piece], **options).upper_logits
    torch.testing.assert_close(found, logits.repeat_interleave(2, 0))
    assert not torch.allclose(model.generate(features[:, piece], **options).upper_logits, found)


@pytest.mark.parametrize("tempo", ["free", "steady"])
def test_rhythm_does_not_hear_the_padding(tempo):
    model = tiny_model(rhythm_size=8, rhythm_layers=3, rhythm_tempo=tempo, music_columns=[], music_to_codes=True)
    features, codes = song(14, batch=2), start(2)
    mask = torch.ones(features.shape[:2])
    mask[1, 9 * 8 :] = 0
    together = model.generate(features, MIXED[:2], attention_mask=mask, do_sample=False, **codes)
    alone = model.generate(
        features[1:, : 9 * 8], MIXED[1:2], do_sample=False, **{name: value[1:] for name, value in codes.items()}
    )
    assert torch.equal(together.upper_codes[1, :9], alone.upper_codes[0])
    assert torch.equal(together.lower_codes[1, :9], alone.lower_codes[0])


@pytest.mark.versions
@pytest.mark.parametrize("prompt", [1, 6, 11])
@pytest.mark.parametrize("mode", MODES)
def test_caches_change_nothing(mode, prompt):
    arguments = {"mode": mode, "do_sample": False, "output_logits": True, **start(steps=prompt)}
    cached = MODEL.generate(song(16), MIXED, **arguments)
    recomputed = MODEL.generate(song(16), MIXED, use_cache=False, **arguments)
    assert_equal(cached, recomputed)
    assert cached.upper_logits.shape == (4, 16 - prompt, CODES)
    torch.testing.assert_close(cached.upper_logits, recomputed.upper_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(cached.lower_logits, recomputed.lower_logits, atol=1e-4, rtol=0)


@pytest.mark.versions
@pytest.mark.parametrize("mode", MODES)
def test_long_prompts_are_read_in_pieces(monkeypatch, mode):
    arguments = {"mode": mode, "do_sample": False, "output_logits": True, **start(steps=11)}
    at_once = MODEL.generate(song(14), MIXED, **arguments)
    monkeypatch.setattr(generation_megadance, "PREFILL_CODES", 3)
    in_pieces = MODEL.generate(song(14), MIXED, **arguments)
    assert_equal(at_once, in_pieces)
    torch.testing.assert_close(at_once.upper_logits, in_pieces.upper_logits, atol=1e-4, rtol=0)


@pytest.mark.versions
@given(pieces=st.lists(st.integers(1, 7), min_size=1, max_size=6))
@settings(max_examples=8)
def test_a_cache_fed_in_pieces_equals_one_forward(pieces):
    """This is also what mode `stream` equals: one forward over everything, under the sliding mask."""
    steps = sum(pieces)
    features, codes = song(steps)[:, : steps * 8], start(steps=steps)
    with torch.no_grad():
        whole = MODEL(features, **codes, genre_ids=MIXED)
        cache, position, logits = None, 0, []
        for piece in pieces:
            end = position + piece
            part = {name: tensor[:, position:end] for name, tensor in codes.items()}
            outputs = MODEL(
                features[:, position * 8 : (end + 1) * 8],
                **part,
                genre_ids=MIXED,
                cache=cache,
                use_cache=True,
            )
            cache, position = outputs.cache, end
            logits.append(outputs.upper_logits)
    assert cache.get_seq_length() == steps
    torch.testing.assert_close(torch.cat(logits, 1), whole.upper_logits, atol=1e-4, rtol=0)


@pytest.mark.versions
def test_stream_equals_one_forward_over_its_own_dance():
    result = MODEL.generate(song(20), MIXED, mode="stream", seed=3, do_sample=True, output_logits=True)
    with torch.no_grad():
        whole = MODEL(song(20)[:, :160], result.upper_codes, result.lower_codes, MIXED)
    torch.testing.assert_close(result.upper_logits, whole.upper_logits[:, :-1], atol=1e-4, rtol=0)


def test_cache_does_not_grow_and_belongs_to_its_genres():
    def size(cache):
        return sum(tensor.numel() for tensor in (cache.conv, cache.ssm, cache.keys, cache.values))

    cache = MegaDanceCache(MODEL.config, MIXED, torch.float32)
    pointers = [tensor.data_ptr() for tensor in (cache.conv, cache.ssm, cache.keys, cache.values)]
    before = size(cache)
    with torch.no_grad():
        for _ in range(10):
            MODEL(song(1)[:, :8], **start(), genre_ids=MIXED, cache=cache)
    assert size(cache) == before and cache.get_seq_length() == 10
    assert pointers == [tensor.data_ptr() for tensor in (cache.conv, cache.ssm, cache.keys, cache.values)]
    with pytest.raises(ValueError, match="genre_ids differ"):
        MODEL(song(1)[:, :8], **start(), genre_ids=MIXED.flip(0), cache=cache)
    cache.reset(MIXED.flip(0))
    with torch.no_grad():
        again = MODEL(song(1)[:, :8], **start(), genre_ids=MIXED.flip(0), cache=cache)
        fresh = MODEL(song(1)[:, :8], **start(), genre_ids=MIXED.flip(0))
    torch.testing.assert_close(again.upper_logits, fresh.upper_logits, atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------------------------- lengths, prompts, mix


@given(steps=st.integers(1, 100), mode=st.sampled_from(MODES))
@settings(max_examples=6)
def test_any_length(steps, mode):
    result = MODEL.generate(song(steps, batch=1), torch.tensor([1]), mode=mode, seed=0, do_sample=True)
    assert result.upper_codes.shape == result.lower_codes.shape == (1, steps)
    assert 0 <= int(result.upper_codes.min()) and int(result.upper_codes.max()) < CODES
    assert result.lengths.tolist() == [steps]


@pytest.mark.parametrize("mode", MODES)
def test_items_of_a_mixed_batch_equal_the_items_alone(mode):
    lengths = [17, 5, 20, 1]
    mask = torch.zeros(4, 165)
    for row, length in enumerate(lengths):
        mask[row, : length * 8 + row] = 1  # a few frames beyond the last whole code
    together = MODEL.generate(song(20), MIXED, mode=mode, do_sample=False, attention_mask=mask, **start())
    assert together.lengths.tolist() == lengths
    for row, length in enumerate(lengths):
        own = {name: codes[row : row + 1] for name, codes in start().items()}
        alone = MODEL.generate(
            song(20)[row : row + 1, : length * 8 + row], MIXED[row : row + 1], mode=mode, do_sample=False, **own
        )
        assert torch.equal(together.upper_codes[row, :length], alone.upper_codes[0])
        assert torch.equal(together.lower_codes[row, :length], alone.lower_codes[0])
        assert (together.upper_codes[row, length:] == alone.upper_codes[0, -1]).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_continued_dance_goes_on_as_if_it_had_never_stopped(mode):
    whole = MODEL.generate(song(16), MIXED, mode=mode, do_sample=False, **start())
    for given_codes in (6, 7, 13, 16):
        prompt = {"upper_codes": whole.upper_codes[:, :given_codes], "lower_codes": whole.lower_codes[:, :given_codes]}
        assert_equal(MODEL.generate(song(16), MIXED, mode=mode, do_sample=False, **prompt), whole)


def test_music_and_genre_matter():
    base = MODEL.generate(song(20), MIXED, do_sample=False, **start())
    other_song = MODEL.generate(song(20, seed=1), MIXED, do_sample=False, **start())
    other_genre = MODEL.generate(song(20), MIXED.flip(0), do_sample=False, **start())
    assert not torch.equal(base.upper_codes, other_song.upper_codes)
    assert not torch.equal(base.upper_codes, other_genre.upper_codes)


def test_start_codes():
    config = GenerationConfig(start_codes={"Wei": [[1, 2], [3, 4], [5, 6]]}, do_sample=True)
    genres = torch.tensor([1, 0]).repeat(20)
    drawn = MODEL.generate(song(1, batch=40), genres, generation_config=config, seed=0)
    pairs = set(zip(drawn.upper_codes[:, 0].tolist(), drawn.lower_codes[:, 0].tolist(), strict=True))
    assert pairs == {(1, 2), (3, 4), (5, 6), (CODES // 2, CODES // 2)}
    assert (drawn.upper_codes[1::2, 0] == CODES // 2).all()
    greedy = MODEL.generate(song(1, batch=40), genres, generation_config=GenerationConfig(**config.to_dict()), seed=0)
    assert_equal(drawn, greedy)  # the same seed
    config.do_sample = False
    first = MODEL.generate(song(1, batch=40), genres, generation_config=config)
    assert (first.lower_codes[::2, 0] == 2).all()
    config.start_codes = {"Wei": [[1, CODES]]}
    with pytest.raises(ValueError, match="start_codes.'Wei'. has .1, 15."):
        MODEL.generate(song(1, batch=40), genres, generation_config=config)


def test_generation_config_keeps_the_own_fields(tmp_path):
    config = GenerationConfig(mode="released", start_codes={"Wei": [[1, 2]]}, do_sample=True, top_k=7)
    config.save_pretrained(tmp_path)
    loaded = GenerationConfig.from_pretrained(tmp_path)
    assert (loaded.mode, loaded.start_codes, loaded.top_k) == ("released", {"Wei": [[1, 2]]}, 7)
    model = tiny_model()
    model.generation_config = loaded
    by_config = model.generate(song(20), MIXED, do_sample=False, **start())
    assert_equal(by_config, MODEL.generate(song(20), MIXED, mode="released", do_sample=False, **start()))
    paper = model.generate(song(20), MIXED, mode="paper", do_sample=False, **start())
    assert not torch.equal(by_config.upper_codes, paper.upper_codes)


# ------------------------------------------------------------------------------------------------------------- sampling


def test_seeds():
    def dance(**kwargs):
        return MODEL.generate(song(12), MIXED, do_sample=True, temperature=2.0, **start(), **kwargs)

    assert_equal(dance(seed=1), dance(seed=1))
    assert_equal(dance(seed=1), dance(generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(dance(seed=1).upper_codes, dance(seed=2).upper_codes)
    torch.manual_seed(5)
    one = dance()
    torch.manual_seed(5)
    assert_equal(one, dance())
    with pytest.raises(ValueError, match="seed and generator"):
        dance(seed=1, generator=torch.Generator())


def test_num_return_sequences():
    result = MODEL.generate(
        song(12), MIXED, do_sample=True, temperature=3.0, num_return_sequences=3, seed=0, **start(steps=2)
    )
    assert result.upper_codes.shape == (12, 12)
    assert torch.equal(result.upper_codes[:, :2], start(steps=2)["upper_codes"].repeat_interleave(3, 0))
    assert not torch.equal(result.upper_codes[0], result.upper_codes[1])
    with pytest.raises(ValueError, match="num_return_sequences"):
        MODEL.generate(song(12), MIXED, do_sample=False, num_return_sequences=2)


def test_top_k_1_is_greedy_and_sampling_follows_the_probabilities():
    greedy = MODEL.generate(song(20), MIXED, do_sample=False, **start())
    assert_equal(MODEL.generate(song(20), MIXED, do_sample=True, top_k=1, seed=9, **start()), greedy)
    assert_equal(MODEL.generate(song(20), MIXED, do_sample=True, temperature=1e-4, seed=9, **start()), greedy)
    one = {name: codes[:1] for name, codes in start().items()}
    drawn = MODEL.generate(
        song(2)[:1], MIXED[:1], do_sample=True, top_k=0, num_return_sequences=4000, seed=0, output_logits=True, **one
    )
    expected = drawn.upper_logits[0, 0].softmax(-1)
    observed = drawn.upper_codes[:, 1].bincount(minlength=CODES) / 4000
    torch.testing.assert_close(observed, expected, atol=0.03, rtol=0)


def test_draw():
    """As often as the probabilities say, and none that has the probability 0: not before the first, between, nor after the last."""
    scores = torch.full((3, 40), -torch.inf)
    scores[0, [3, 20, 39]] = torch.tensor([0.0, 0.7, -1.0])
    scores[1, [0, 38]] = torch.tensor([80.0, 81.0])
    scores[2, 17] = -5.0
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw(scores, generator) for _ in range(20000)], 1)
    for row, of_row in enumerate(drawn):
        shares = of_row.bincount(minlength=40) / 20000
        torch.testing.assert_close(shares, scores[row].softmax(-1), atol=0.015, rtol=0)
        assert (scores[row][of_row] > -torch.inf).all()
    assert abs(float(torch.corrcoef(drawn[:2].float())[0, 1])) < 0.03  # rows do not share their number


@pytest.mark.parametrize("number", [0.0, 1 - 2**-24])
def test_draw_at_the_ends(monkeypatch, number):
    """Of what uniform numbers there can be."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, number))
    scores = torch.randn(500, 1000, generator=torch.Generator().manual_seed(0))
    scores[:, :100], scores[:, 900:] = -torch.inf, -torch.inf
    drawn = draw(scores, None)
    assert torch.equal(drawn, torch.full((500,), 899 if number else 100))


@pytest.mark.parametrize("do_sample", [False, True])
def test_no_code_is_chosen_where_none_can_be(do_sample):
    scores = torch.zeros(4, CODES)
    scores[2, 1:] = -torch.inf
    assert choose(scores, do_sample, torch.Generator().manual_seed(0))[2] == 0  # the only one
    scores[2] = -torch.inf
    with pytest.raises(ValueError, match="no code is left to choose: forbid fewer of them"):
        choose(scores, do_sample, None)
    for wrong in (torch.nan, torch.inf):
        scores[2, 5] = wrong
        with pytest.raises(ValueError, match="the scores of codes are NaN or infinite: give a temperature"):
            choose(scores, do_sample, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_sample": False, "suppress_tokens": list(range(CODES))}, "no code is left"),
        ({"do_sample": True, "bad_words_ids": [[code] for code in range(CODES)]}, "no code is left"),
        ({"do_sample": True, "no_repeat_ngram_size": 1}, "no code is left"),  # after as many codes as there are
        ({"do_sample": True, "temperature": 1e-320}, "NaN or infinite"),
        ({"do_sample": True, "repetition_penalty": 1e-320}, "NaN or infinite"),
        ({"do_sample": False, "sequence_bias": {(3,): float("nan")}}, "NaN or infinite"),
        ({"logits_processor": [lambda codes, scores: scores * torch.nan]}, "NaN or infinite"),
        ({"logits_processor": [lambda codes, scores: scores[:, :3]]}, r"scores of shape \(8, 3\): give \(8, 15\)"),
    ],
)
def test_options_that_leave_no_code(options, message):
    with pytest.raises(ValueError, match=message):
        MODEL.generate(song(CODES + 5), MIXED, seed=0, **options)


class Only(LogitsProcessor):
    """Allows one code in the upper rows and another in the lower; notes the shapes it sees."""

    def __init__(self):
        self.lengths = []

    def __call__(self, input_ids, scores):
        assert input_ids.shape[0] == scores.shape[0] == 8 and scores.shape[1] == CODES
        self.lengths.append(input_ids.shape[1])
        masked = torch.full_like(scores, -torch.inf)
        masked[:4, 3] = 0
        masked[4:, 11] = 0
        return masked


def test_logits_processors_are_respected():
    processor = Only()
    result = MODEL.generate(
        song(9), MIXED, do_sample=True, seed=0, logits_processor=LogitsProcessorList([processor]), **start(steps=2)
    )
    assert (result.upper_codes[:, 2:] == 3).all() and (result.lower_codes[:, 2:] == 11).all()
    assert processor.lengths == list(range(2, 9))
    suppressed = MODEL.generate(
        song(30), MIXED, do_sample=True, seed=0, suppress_tokens=[0, 1, 2, 3], output_scores=True, **start()
    )
    assert (suppressed.upper_codes[:, 1:] > 3).all() and (suppressed.lower_scores[:, :, :4] == -torch.inf).all()
    free = MODEL.generate(song(30), MIXED, do_sample=False, **start())
    penalised = MODEL.generate(song(30), MIXED, do_sample=False, repetition_penalty=50.0, **start())
    assert len(penalised.upper_codes[0].unique()) > len(free.upper_codes[0].unique())


def test_streamer_and_progress():
    recorder, done = Streamer(), []
    result = MODEL.generate(
        song(9),
        MIXED,
        mode="stream",
        seed=0,
        do_sample=True,
        streamer=recorder,
        progress=lambda now, total: done.append((now, total)),
        **start(steps=3),
    )
    assert recorder.ended and [chunk.shape[-1] for chunk in recorder.codes] == [3, 1, 1, 1, 1, 1, 1]
    streamed = torch.cat(recorder.codes, -1)
    assert torch.equal(streamed, torch.stack((result.upper_codes, result.lower_codes), 1))
    assert done == [(now, 9) for now in range(3, 10)]


def test_bfloat16():
    half = tiny_model().to(torch.bfloat16)
    cached = half.generate(song(9), MIXED, do_sample=False, output_logits=True, **start())
    expected = MODEL.generate(song(9), MIXED, do_sample=False, output_logits=True, **start())
    assert cached.upper_logits.dtype == torch.float32
    difference = (cached.upper_logits[:, 0] - expected.upper_logits[:, 0]).abs().mean()
    assert difference < 0.1 * expected.upper_logits[:, 0].abs().mean()


def test_progress_bar(capsys):
    MODEL.generate(song(3), MIXED, progress=True)
    assert "3/3" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "fast"}, "mode='fast' is unknown; use one of paper, released, stream"),
        ({"input_features": torch.zeros(4, 7, 35)}, "7 frames of music are shorter than one code .8 frames"),
        ({"input_features": torch.zeros(4, 16)}, "expected .batch, frames, features."),
        (start(steps=11), "11 codes are given, but the shortest music lasts 10 codes"),
        ({"upper_codes": torch.zeros(4, 1).long()}, "must be given together"),
        ({name: codes + CODES for name, codes in start().items()}, "upper_codes has codes outside 0 to 14"),
        (start(batch=3), "upper_codes has shape .3, 1.; expected .4, 1 or more."),
        ({"genre_ids": torch.tensor([0, 1, 2, 3])}, "genre_ids has 3, which is no genre; the genres are 0 Popping"),
        ({"attention_mask": torch.ones(4, 3)}, "attention_mask has shape"),
        ({"attention_mask": torch.tensor([0, 1]).repeat_interleave(42)[:80].expand(4, -1)}, "ones, then zeros"),
        ({"nonsense": 1}, "nonsense"),
        ({"num_beams": 2}, "no beam search"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"input_features": song(10)[:, :80], "genre_ids": MIXED, **changes}
    with pytest.raises(ValueError, match=message):
        MODEL.generate(**arguments)
