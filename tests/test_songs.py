"""Songs of raw folders: found, analysed once, cut to the dance."""

import numpy as np
import pytest
import soundfile
from helpers import click_song, write_song

from megadance_hf.data import songs
from megadance_hf.data.clip import Clip, ClipError
from megadance_hf.data.songs import add_song, cut_to_music, encode_ogg, excerpt, find_song, fit_rows
from megadance_hf.modeling.audio_megadance import AudioError, load_audio


def clip(frames=60):
    return Clip("a", np.zeros((frames, 72), np.float32), np.zeros((frames, 3), np.float32), source="S")


def test_the_first_folder_that_has_it(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "mBR0.mp3").touch()
    folders = [tmp_path / "one", tmp_path / "two"]
    assert find_song(folders, "mBR0") == tmp_path / "two" / "mBR0.mp3"
    (tmp_path / "one" / "mBR0.flac").touch()
    assert find_song(folders, "mBR0") == tmp_path / "one" / "mBR0.flac"
    assert find_song(folders, "mBR1") == tmp_path / "one" / "mBR1.wav", "where it should be"


def test_a_song_is_analysed_once_until_it_changes(tmp_path, monkeypatch):
    calls = []

    def features(song):
        calls.append(song)
        return np.zeros((75, 35), np.float32)

    monkeypatch.setattr(songs, "song_features", features)
    song = write_song(tmp_path / "a.wav")
    first, second = add_song(clip(60), song), add_song(clip(80), song)
    assert len(calls) == 1 and (len(first), len(second)) == (60, 75)
    first.input_features[:] = 1  # a clip's features are its own
    assert not add_song(clip(60), song).input_features.any() and len(calls) == 1
    write_song(song, seconds=3)
    add_song(clip(60), song)
    assert len(calls) == 2


def test_music_and_motion_are_cut_to_the_shorter():
    features = np.zeros((50, 35), np.float32)
    assert len(cut_to_music(clip(40), features).input_features) == 40
    shorter = cut_to_music(clip(60), features)
    assert len(shorter) == 50 and shorter.source == "S"
    assert cut_to_music(clip(90), features).source == "S; motion cut from 90 to 50 frames, where the music ends"
    with pytest.raises(ClipError, match=r"motion \(60 frames\) and music \(15 rows\) share less than 16 frames"):
        cut_to_music(clip(60), features[:15])


def test_an_excerpt_sounds_like_its_song(tmp_path):
    song = write_song(tmp_path / "a.wav", seconds=4, rate=44100, channels=2)
    waveform, rate = load_audio(excerpt(song, 2.5), sampling_rate=None)
    assert rate == 44100 and abs(len(waveform) - 2.5 * rate) < 100
    expected = click_song(4, 44100)[: len(waveform)]
    assert np.corrcoef(waveform, expected)[0, 1] > 0.95


@pytest.mark.parametrize("samples", [8000, 8001, 40000 * 20])
def test_any_length_can_be_encoded(samples):
    waveform = np.sin(np.arange(samples) / 20).astype(np.float32)
    got, rate = load_audio(encode_ogg(waveform, 16000), sampling_rate=None)
    assert rate == 16000 and abs(len(got) - samples) <= 64


def test_the_same_music_gives_the_same_bytes():
    """libsndfile itself numbers each stream at random."""
    waveform = click_song(3, 16000)
    assert encode_ogg(waveform, 16000) == encode_ogg(waveform, 16000)


def test_checksums_are_those_of_the_encoder(tmp_path):
    """Its own pages, read with its own numbers."""
    song = write_song(tmp_path / "a.ogg").read_bytes()
    page, count = 0, 0
    while page < len(song):
        end = page + 27 + song[page + 26] + sum(song[page + 27 : page + 27 + song[page + 26]])
        without = song[page : page + 22] + bytes(4) + song[page + 26 : end]
        assert songs._ogg_checksum(without) == int.from_bytes(song[page + 22 : page + 26], "little")
        page, count = end, count + 1
    assert count > 2


def test_songs_that_cannot_be_used(tmp_path):
    with pytest.raises(ClipError, match="a.wav is missing"):
        add_song(clip(), tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.wav", np.zeros(22050), 22050)
    with pytest.raises(AudioError, match="is silent"):
        add_song(clip(), tmp_path / "a.wav")


def test_music_rows_fit_the_motion():
    features = np.random.default_rng(0).random((50, 35)).astype(np.float32)
    features[-1, 33:] = 1
    np.testing.assert_array_equal(fit_rows(features, 50), features)
    np.testing.assert_array_equal(fit_rows(features, 44), features[:44])
    longer = fit_rows(features, 53)
    np.testing.assert_array_equal(longer[:50], features)
    np.testing.assert_array_equal(longer[50:, :33], np.repeat(features[-1:, :33], 3, axis=0))
    assert not longer[50:, 33:].any()
    with pytest.raises(ClipError, match="the music ends 4 frames before the motion of 54 frames"):
        fit_rows(features, 54)
    with pytest.raises(ClipError):
        fit_rows(features[:0], 2)
