"""Whether a dance uses its music: tests of significance, music as it is heard, cross-entropy, beat and bar."""

import numpy as np
import pytest
import torch
from helpers import tiny_generator, tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf import metrics
from megadance_hf.data.clip import Clip
from megadance_hf.data.rhythm import bar_phase
from megadance_hf.evaluation import synchrony
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizerEncoderOutput
from megadance_hf.modeling.music_features_megadance import BEAT


def paused(beats: np.ndarray, frames: int, rest: np.ndarray) -> np.ndarray:
    """Joints (frames, 24, 3) that swing from one side to the other and stand still exactly on each beat."""
    every = np.concatenate(
        ([2 * beats[0] - beats[1]], beats, [2 * beats[-1] - beats[-2]], [3 * beats[-1] - 2 * beats[-2]])
    )
    place = np.interp(np.arange(frames), every, np.arange(len(every)))
    return rest + 0.2 * np.cos(np.pi * place)[:, None, None] * np.array([1.0, 0.3, 0.0])


def song(number: int, frames: int = 300, period: float = 0.5, genre: str = "waltz", **fields) -> Clip:
    """A still clip with music of its own; its beats are known unless `fields` say otherwise."""
    generator = np.random.default_rng(number)
    features = generator.standard_normal((frames, 35)).astype(np.float32)
    features[:, BEAT] = 0
    features[(30 * np.arange(0.1, frames / 30, period) + 1e-6).astype(int), BEAT] = 1
    grid = {"beat_period_s": period, "first_beat_s": 0.1, "beats_per_bar": 3, "first_beat_is_downbeat": True}
    poses = 0.2 * np.sin(np.arange(frames)[:, None] / 7 + generator.uniform(0, 6, 72))
    path = np.tile([0.0, 1.0, 0.0], (frames, 1))
    return Clip(
        f"song{number}", poses.astype(np.float32), path.astype(np.float32), features, genre=genre, **(grid | fields)
    )


# --- significance ------------------------------------------------------------------------------------------------------


def test_a_paired_test_is_one_sided():
    low = np.arange(10.0)
    assert synchrony.paired_test(low + np.linspace(1, 2, 10), low)["p"] == pytest.approx(2**-10)
    assert synchrony.paired_test(low, low + np.linspace(1, 2, 10))["p"] == 1.0
    assert synchrony.paired_test(low, low) == {"pairs": 10, "difference": 0.0, "p": 1.0}
    assert synchrony.paired_test([], []) == {"pairs": 0, "difference": 0.0, "p": 1.0}


def test_dances_to_one_song_count_once_over_songs():
    dances = [{"song": f"s{n // 3}", "bar": {"own": n + 1.0, "moved": 0.0}} for n in range(12)]
    found = synchrony.synchrony_tests([*dances, {"song": "unknown", "bar": None}], "bar")
    assert (found["dances"]["pairs"], found["songs"]["pairs"]) == (12, 4)
    assert found["own"] == 6.5 and found["songs"]["p"] == pytest.approx(1 / 16)
    assert synchrony.synchrony_tests([{"song": "a", "bar": None}], "bar") is None


def test_right_and_wrong_music_are_paired_by_excerpt_and_seed():
    right = [{"excerpt": "a", "seed": s, "bar": {"own": 0.5 + s}} for s in range(5)]
    wrong = [{"excerpt": "a", "seed": s, "bar": {"own": 0.25 + s}} for s in reversed(range(4))]
    assert synchrony.against(right, wrong, "bar") == {"pairs": 4, "difference": 0.25, "p": pytest.approx(1 / 16)}
    assert synchrony.against(right, [], "bar") is None


# --- music -------------------------------------------------------------------------------------------------------------


def test_music_is_heard_as_said():
    one, other = song(1, period=0.4), song(2, frames=120)
    mean = np.arange(35.0)
    assert synchrony.music_as("right", one, other, mean) is one.input_features
    shifted = synchrony.music_as("shifted", one, other, mean)
    np.testing.assert_array_equal(shifted[18:], one.input_features[:-18])  # one and a half beats
    np.testing.assert_array_equal(synchrony.music_as("swapped", one, other, mean)[120:240], other.input_features)
    np.testing.assert_array_equal(synchrony.music_as("zeroed", one, None, mean), np.tile(mean, (300, 1)))


def test_the_shift_needs_no_known_beat():
    unknown = {"beat_period_s": None, "first_beat_s": None}
    assert synchrony.beat_period(song(1, period=0.4, **unknown)) == pytest.approx(0.4)
    silent = song(1, **unknown)
    silent.input_features[:, BEAT] = 0
    shifted = synchrony.music_as("shifted", silent, None, np.zeros(35))
    np.testing.assert_array_equal(shifted[21:], silent.input_features[:-21])


def test_another_song_is_long_enough_and_of_another_tempo():
    songs = [song(0), song(1), song(2, period=0.7), song(3, frames=200, period=0.7)]
    assert synchrony.other_songs(songs, [300] * 4) == [2, 2, 0, 0]
    assert synchrony.other_songs(songs, [200] * 4) == [2, 2, 0, 0]
    assert synchrony.other_songs([songs[0], songs[3]], [300, 200]) == [1, 0]  # a short one is better than none
    same = song(0, genre="rumba")
    assert synchrony.same_track(songs[0], same) and not synchrony.same_track(songs[0], songs[1])
    assert synchrony.other_songs([songs[0], same], [300, 300]) == [None, None]


def test_beats_of_features_and_of_the_data_set():
    clip = song(1)
    assert synchrony.heard_beats(clip)[:3].tolist() == [3, 18, 33]
    assert synchrony.known_beats(clip)[:3] == pytest.approx([3, 18, 33])
    assert synchrony.known_beats(song(1, phase_confidence="low")) is None
    early = song(1, first_beat_s=-0.65)  # an excerpt's first beat can lie before it
    assert synchrony.known_beats(early)[0] == pytest.approx(10.5)


# --- cross-entropy -----------------------------------------------------------------------------------------------------


def test_cross_entropy_is_that_of_the_model_window_by_window():
    model, tokenizer = tiny_generator(music_lookahead=1), tiny_tokenizer()
    songs = [song(0, frames=560), song(1, period=0.7), song(2, frames=100)]
    found = synchrony.cross_entropy(model, tokenizer, songs, [1, 0, 0])
    assert [len(found["windows"][c]) for c in synchrony.MUSIC] == [2 + 1 + 1] * 4  # 70, 37 and 12 codes
    with torch.no_grad():
        codes = tokenizer.encode(torch.from_numpy(synchrony.clip_motion(songs[0])[None]))
        piece = {"upper_codes": codes.upper_codes[:, 29:59], "lower_codes": codes.lower_codes[:, 29:59]}
        labels = {"upper_labels": piece["upper_codes"], "lower_labels": piece["lower_codes"]}
        features = torch.from_numpy(songs[0].input_features[None, 29 * 8 : 59 * 8])
        loss = model(features, genre_ids=torch.tensor([2]), **piece, **labels).loss
    assert found["windows"]["right"][1] == pytest.approx(float(loss), abs=1e-5)
    mean = found["mean"]["right"]
    assert mean["sum"] == pytest.approx(np.mean([row["right"]["sum"] for row in found["songs"]]))
    assert mean["perplexity_upper"] == pytest.approx(np.exp(mean["upper"]))
    assert {test["songs"]["pairs"] for test in found["tests"].values()} == {3}


def test_without_another_song_nothing_is_swapped():
    found = synchrony.cross_entropy(tiny_generator(), tiny_tokenizer(), [song(0)], [None])
    assert list(found["mean"]) == ["right", "shifted", "zeroed"] and "swapped" not in found["tests"]


def test_a_rhythm_encoder_hears_the_whole_song_and_is_silent_without_music():
    model = tiny_generator(rhythm_size=8, rhythm_layers=1)
    heard, read = [], []
    encode = model.model.encode_rhythm

    def listen(features):
        heard.append(features.shape[1])
        return encode(features)

    model.model.encode_rhythm = listen
    model.register_forward_pre_hook(lambda m, a, kwargs: read.append(kwargs["rhythm"]), with_kwargs=True)
    synchrony.cross_entropy(model, tiny_tokenizer(), [song(0, frames=560)], [None])
    assert heard == [560] * 3 and [tuple(r.shape) for r in read] == [(2, 240, 4)] * 3
    assert read[0].abs().max() > 0 and read[2].abs().max() == 0


def test_music_that_is_in_the_codes_is_found(monkeypatch):
    """A model that is told the next code by the music, and by nothing else: right music must win in every song."""
    tokenizer = tiny_tokenizer()
    songs = [song(n, frames=500, period=0.4 + n / 20) for n in range(8)]
    for clip in songs:
        codes = np.random.default_rng(len(clip.id) + int(clip.id[4:])).integers(0, 27, len(clip) // 8)
        clip.input_features[:, 0] = np.repeat(codes, 8).tolist() + [0] * (len(clip) % 8)
        clip.codes = torch.from_numpy(codes)[None]
    known = iter(songs)
    monkeypatch.setattr(
        type(tokenizer), "encode", lambda self, m: MegaDanceTokenizerEncoderOutput(*[next(known).codes] * 2)
    )
    model = tiny_generator(music_lookahead=1)

    def forward(features, upper, lower, genre_ids, rhythm):
        told = torch.cat((features[:, 8::8, 0], features[:, -1:, 0]), 1).long().clamp(0, 26)
        logits = 9 * torch.nn.functional.one_hot(told, 27).float()
        return type("Output", (), {"upper_logits": logits, "lower_logits": logits})

    monkeypatch.setattr(type(model), "forward", lambda self, *args, **kwargs: forward(*args, **kwargs))
    found = synchrony.cross_entropy(model, tokenizer, songs, [(n + 1) % 8 for n in range(8)])
    assert found["mean"]["right"]["sum"] < 0.02
    assert all(test[over]["p"] < 0.01 for test in found["tests"].values() for over in ("songs", "windows"))


# --- beat and bar ------------------------------------------------------------------------------------------------------


@given(
    st.floats(8, 30),
    st.floats(0, 8),
    st.floats(0.01, 0.99),
)
def test_shifted_beats_of_an_even_grid_are_that_grid_later(period, first, part):
    frames = 200
    beats = np.arange(first, frames, period)
    moved = synchrony.shift_beats(beats, part, frames)
    expected = np.arange(first + (part - 1) * period, frames, period)
    expected = expected[expected >= 0]
    # a beat within rounding of an end may be in or out
    assert abs(len(moved) - len(expected)) <= 1
    assert all(np.abs(expected - beat).min() < 1e-6 for beat in moved if 1e-6 < beat < frames - 1e-6)


def test_a_dance_that_pauses_on_the_beat_beats_its_own_shifts():
    rest = np.random.default_rng(0).uniform(-1, 1, (24, 3))
    rows = []
    for number in range(10):
        beats = np.arange(4.3 + number / 2, 300, 14 + number)  # between two frames
        rows.append({"song": number, "beat": synchrony.beat_synchrony(paused(beats, 300, rest), beats)})
    for over in ("music", "motion"):
        found = synchrony.synchrony_tests([{"song": r["song"], over: r["beat"][over]} for r in rows], over)
        assert found["own"] > 0.9 > 0.6 > found["moved"]
        assert found["dances"]["p"] < 0.01 and found["songs"]["p"] < 0.01


def test_a_dance_that_pauses_anywhere_does_not():
    rows = []
    for number in range(24):
        generator = np.random.default_rng(number)
        pauses = np.cumsum(generator.uniform(8, 30, 30))
        rest = generator.uniform(-1, 1, (24, 3))
        beats = np.arange(generator.uniform(0, 15), 300, 15)
        rows.append({"song": number, "beat": synchrony.beat_synchrony(paused(pauses, 300, rest), beats)})
    for over in ("music", "motion"):
        found = synchrony.synchrony_tests([{"song": r["song"], over: r["beat"][over]} for r in rows], over)
        assert found["dances"]["p"] > 0.05


def test_one_beat_is_no_tempo():
    assert synchrony.beat_synchrony(np.zeros((100, 24, 3)), np.array([40])) is None


def test_the_training_profile_of_one_clip_is_that_clip():
    clip = song(1, period=0.4)
    profiles = synchrony.training_profiles([clip, song(2, first_beat_is_downbeat=False), song(3, genre=None)])
    own = metrics.bar_profile(synchrony.joints_of(clip.poses, clip.translation), bar_phase(clip))
    np.testing.assert_allclose(profiles["waltz"], own)
    assert list(profiles) == ["waltz"]


def test_a_dance_in_time_with_the_bar_is_told_from_itself_moved():
    frames, period = 480, 60
    phase = (np.arange(frames) / period) % 1
    speed = 1 + 0.8 * np.cos(2 * np.pi * phase)
    path = np.cumsum(speed) / 30
    joints = np.zeros((frames, 24, 3))
    joints[:, 1:, 1] = path[:, None]
    reference = metrics.bar_profile(joints, phase)
    found = synchrony.bar_synchrony(joints, phase, reference)
    assert found["own"] == pytest.approx(1) and found["moved"] == pytest.approx(-1 / 11, abs=0.02)
    late = synchrony.bar_synchrony(joints, (phase + 0.5) % 1, reference)
    assert late["own"] == pytest.approx(-1, abs=0.02)
    np.testing.assert_allclose(found["profile"], reference)
