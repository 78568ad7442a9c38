"""Baselines that need no generator."""

import numpy as np
import pytest
from helpers import song
from test_dances import excerpts, pipe  # noqa: F401  (fixtures)

from megadance_hf.evaluation import baselines
from megadance_hf.evaluation.baselines import NearestMusic


def test_retrieval_finds_the_music_itself_and_dances_on():
    training = [song(number, 400) for number in range(3)]
    nearest = NearestMusic(training)
    heard = np.concatenate([training[2].input_features[32:272], training[0].input_features[64:112]])
    poses, path = nearest(heard)
    assert poses.shape == (288, 24, 3) and path.shape == (288, 3)
    np.testing.assert_allclose(poses[:240].reshape(240, -1), training[2].poses[32:272], atol=1e-5)
    np.testing.assert_allclose(poses[240:].reshape(48, -1), training[0].poses[64:112], atol=1e-5)
    assert np.abs(np.diff(path[:, [0, 2]], axis=0)).max() < 1e-6  # both stand on their place


def test_retrieval_needs_training_music():
    with pytest.raises(ValueError, match="no training clip with music has 240 frames"):
        NearestMusic([song(0, 200)])


def test_baselines_of_every_excerpt(pipe, excerpts):  # noqa: F811
    rows, notes = baselines.baselines(pipe, excerpts, [1, 0, None], [song(7, 300)])
    assert {name: len(found) for name, found in rows.items()} == {
        "ground_truth": 3,
        "other_song": 2,
        "nearest_music": 3,
        "frozen_pose": 3,
        "tokenizer": 3,
    }
    np.testing.assert_array_equal(rows["other_song"][0].poses.reshape(96, 72), excerpts[1].song.poses[:96])
    frozen = rows["frozen_pose"][1]
    assert (frozen.joints == frozen.joints[0]).all()
    np.testing.assert_allclose(frozen.joints[0], rows["ground_truth"][1].joints[0])
    assert notes == ["ground truth of another song leaves out song2: no other song is as long"]
    rows, notes = baselines.baselines(pipe, excerpts, [1, 0, 0], [])
    assert "nearest_music" not in rows and notes[0].startswith("nearest music is left out")
