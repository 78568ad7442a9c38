"""What is plotted below a dance: beats of the song, speed of the dancer, probabilities of genres."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import GENRES, noisy_song, save_tiny_model, tiny_generator

from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.demo.curves import dance_curves, genre_curve, song_curves, speed_curve
from megadance_hf.modeling.kinematics_megadance import poses_to_motion
from megadance_hf.modeling.music_features_megadance import BEAT, MUSIC_FEATURE_SIZE, ONSET_ENVELOPE


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return MusicToDancePipeline.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def danced(pipe):
    """A dance of 13 seconds, longer than one window of training, and its song's features."""
    song = noisy_song(13.0)
    features = pipe.processor(song, "waltz", sampling_rate=15360)["input_features"][0].numpy()
    return pipe((song, 15360), "waltz", seed=0), features


def test_song_curves():
    features = np.zeros((300, MUSIC_FEATURE_SIZE))
    features[::15, ONSET_ENVELOPE], features[100, ONSET_ENVELOPE] = 2.0, 400.0  # one loud onset
    features[10::15, BEAT] = 1
    curves = song_curves(features)
    np.testing.assert_allclose(curves["beats"], np.arange(10, 300, 15) / 30)
    assert curves["tempo"] == pytest.approx(120)
    assert curves["onset"].min() == 0 and curves["onset"].max() == 1
    assert curves["onset"][15] > 0.4, "one loud onset does not flatten the rest"
    silent = song_curves(np.zeros((30, MUSIC_FEATURE_SIZE)))
    assert silent["tempo"] is None and len(silent["beats"]) == 0 and not silent["onset"].any()


def test_speed_is_that_of_the_joints():
    path = np.zeros((90, 3))
    path[:, 2] = np.arange(90) / 30 * 1.5  # gliding at 1.5 m/s
    curve = speed_curve(Motion(np.zeros((90, 24, 3)), path))
    assert curve.shape == (90,)
    np.testing.assert_allclose(curve, 1.5, atol=1e-4)
    assert speed_curve(Motion(np.zeros((1, 24, 3)), np.zeros((1, 3)))).tolist() == [0.0]


@pytest.mark.parametrize("rhythm", [{}, {"rhythm_size": 8, "rhythm_layers": 2, "rhythm_tempo": "steady"}])
def test_genres_are_judged_by_the_model_s_own_probabilities(pipe, danced, rhythm, monkeypatch):
    """Windows, batches and smoothing against the plain way: one window, one code after the other, one genre after the other."""
    dance, features = danced
    monkeypatch.setattr(pipe, "model", tiny_generator(**rhythm))
    dance = dance[: 24 * 8]  # 24 codes are one window
    found = genre_curve(pipe, dance, features)
    motion = poses_to_motion(torch.from_numpy(dance.poses), torch.from_numpy(dance.translation))[None]
    codes = pipe.tokenizer.encode(motion)
    music = torch.from_numpy(features[None, : len(dance)])
    evidence = []
    for index in range(len(GENRES)):
        with torch.no_grad():
            output = pipe.model(music, codes.upper_codes, codes.lower_codes, genre_ids=torch.tensor([index]))
        row = []
        for step in range(1, 24):
            upper = F.log_softmax(output.upper_logits[0, step - 1], -1)[codes.upper_codes[0, step]]
            lower = F.log_softmax(output.lower_logits[0, step - 1], -1)[codes.lower_codes[0, step]]
            row.append(float(upper + lower))
        evidence.append(row)
    evidence = np.array(evidence)
    weights = np.exp(-0.5 * ((np.arange(23)[:, None] - np.arange(23)) / 2.0) ** 2)
    middle = slice(8, 15)  # away from the ends, where smoothing reflects
    smooth = (evidence @ weights / weights.sum(0))[:, middle]
    expected = np.exp(smooth) / np.exp(smooth).sum(0)
    assert list(found) == list(GENRES)
    np.testing.assert_allclose([found[genre][1:][middle] for genre in GENRES], expected, atol=2e-3)


def test_genres_over_a_long_dance(pipe, danced):
    dance, features = danced
    curves = dance_curves(pipe, dance, features)
    assert curves["speed"].shape == (len(dance),) and curves["speed"].min() >= 0
    rows = np.array(list(curves["genres"].values()))
    assert rows.shape == (len(GENRES), len(dance) // 8)
    np.testing.assert_allclose(rows.sum(0), 1)
    assert (np.diff(rows[:, 1:]) != 0).all(), "every code has its own; the first has nothing before it"
    first = genre_curve(pipe, dance[:240], features)  # one window alone
    np.testing.assert_allclose(rows[:, :20], [first[genre][:20] for genre in GENRES], atol=1e-4)


def test_too_short_for_genres(pipe, danced):
    dance, features = danced
    assert genre_curve(pipe, dance[:15], features) == {}
    assert genre_curve(pipe, dance[:16], features)["waltz"].shape == (2,)
