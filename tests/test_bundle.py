"""The folder for animators: what is in it, how long its sound is, and that it comes whole or not at all. What Blender
makes of it is in test_blender.py."""

import io

import numpy as np
import pytest
import soundfile
from test_export import Glb, random_motion, read_bvh

from megadance_hf.export import bundle
from megadance_hf.export.bundle import save_bundle
from megadance_hf.motion.motion import MotionError

RATE = 44100


@pytest.fixture
def song():
    """Three seconds, stereo, noise: shifted by one sample it is another sound."""
    return np.random.default_rng(0).uniform(-0.9, 0.9, (3 * RATE, 2)).astype(np.float32), RATE


def test_content_of_the_folder(tmp_path, song):
    motion = random_motion(45)
    folder = save_bundle(motion, tmp_path / "dance", song)
    assert sorted(path.name for path in folder.iterdir()) == [
        "HOWTO.txt",
        "dance.bvh",
        "dance.glb",
        "open_in_blender.py",
        "song.wav",
    ]
    assert (folder / "dance.glb").read_bytes() == motion.save(tmp_path / "d.glb").read_bytes()
    assert (folder / "dance.bvh").read_bytes() == motion.save(tmp_path / "d.bvh").read_bytes()
    compile((folder / "open_in_blender.py").read_text(), "open_in_blender.py", "exec")
    lines = (folder / "HOWTO.txt").read_text().splitlines()
    assert len(lines) == 3 and "{" not in "".join(lines)
    assert "from frame 0 to 44" in lines[1] and "from frame 1 to 45" in lines[2] and "Frame Rate to 30" in lines[1]
    # The numbers of the text, from the files themselves: as Blender's importers place them.
    times = Glb((folder / "dance.glb").read_bytes())
    assert times.accessor(times.json["animations"][0]["samplers"][0]["input"])[-1] * 30 == pytest.approx(44)
    assert len(read_bvh((folder / "dance.bvh").read_text())[1]) == 45


@pytest.mark.parametrize("start", [0.0, 0.7])
def test_the_sound_is_cut_to_the_dance_by_the_sample(tmp_path, song, start):
    folder = save_bundle(random_motion(45), tmp_path / "dance", song, start)
    info = soundfile.info(folder / "song.wav")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", RATE, 2)
    heard, _ = soundfile.read(folder / "song.wav")
    assert len(heard) == 45 * RATE // 30
    first = round(start * RATE)
    np.testing.assert_allclose(heard, song[0][first : first + len(heard)], atol=4e-5)


def test_silence_follows_a_song_that_ends_before_the_dance(tmp_path, song):
    sound = io.BytesIO()
    soundfile.write(sound, song[0][: RATE + 100], RATE, format="FLAC")
    heard, _ = soundfile.read(save_bundle(random_motion(31), tmp_path / "dance", sound.getvalue()) / "song.wav")
    assert len(heard) == 31 * RATE // 30 and heard[RATE + 99].any() and not heard[RATE + 100 :].any()


def test_other_rates_and_bones(tmp_path, song):
    motion = random_motion(60)
    motion.fps = 60.0
    folder = save_bundle(motion, tmp_path / "dance", song, bones="mixamo")
    assert len(soundfile.read(folder / "song.wav")[0]) == RATE
    assert "Frame Rate to 60" in (folder / "HOWTO.txt").read_text()
    assert "ROOT mixamorig:Hips" in (folder / "dance.bvh").read_text()
    motion.fps = 29.97
    with pytest.raises(
        MotionError, match=r"fps=29\.97: Blender needs a whole number of frames per second; give motion\.resampled"
    ):
        save_bundle(motion, tmp_path / "other", song)


def test_nothing_is_left_of_a_bundle_that_fails(tmp_path, song, monkeypatch):
    motion = random_motion(5)
    (tmp_path / "there").mkdir()
    with pytest.raises(MotionError, match="there' exists: give the name of a new folder"):
        save_bundle(motion, tmp_path / "there", song)
    with pytest.raises(MotionError, match="nowhere' does not exist; create it first"):
        save_bundle(motion, tmp_path / "nowhere" / "dance", song)
    with pytest.raises(ValueError, match="music_start=9: music ends at 3.00 s"):
        save_bundle(motion, tmp_path / "dance", song, 9)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle.soundfile, "write", full)
    with pytest.raises(MotionError, match="cannot be written .No space left on device"):
        save_bundle(motion, tmp_path / "dance", song)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
