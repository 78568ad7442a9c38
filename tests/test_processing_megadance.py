"""Genre names, model inputs, poses from codes, the floor."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import GENRES, click_song, save_tiny_model, tiny_tokenizer, write_song
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf import MegaDanceProcessor as PackageProcessor
from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.modeling.audio_megadance import AudioError, load_audio
from megadance_hf.modeling.clean_up_megadance import clean_motion
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.genres_megadance import GenreError
from megadance_hf.modeling.kinematics_megadance import (
    CONTACT_JOINTS,
    axis_angle_to_matrix,
    forward_kinematics,
    ground_translation,
    motion_to_poses,
    poses_to_motion,
    root_heading,
)
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.modeling.music_features_megadance import BEAT, PEAK, song_features
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor

pytestmark = pytest.mark.versions

# --- inputs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processor() -> MegaDanceProcessor:
    return MegaDanceProcessor(MegaDanceFeatureExtractor(), genres=GENRES)


@pytest.fixture(scope="module")
def batch(processor):
    """Two songs of 61 and 35 frames."""
    songs = [click_song(61 / 30), click_song(35 / 30)]
    return processor(songs, genre=["Waltz", "cha-cha"], sampling_rate=22050)


def test_inputs_of_two_songs(processor, batch):
    assert batch["input_features"].shape == (2, 64, 35) and batch["input_features"].dtype == torch.float32
    assert batch["num_frames"] == [61, 35]
    assert batch["attention_mask"].sum(1).tolist() == [64, 40]
    assert batch["attention_mask"].dim() == 2 and batch["attention_mask"][1, :40].all()
    assert batch["genre_ids"].tolist() == [2, 0] and batch["genre_ids"].dtype == torch.int64
    assert set(batch) == {*processor.model_input_names, "num_frames"}


def test_features_are_those_of_the_feature_extractor(processor, batch):
    for row, seconds in enumerate((61 / 30, 35 / 30)):
        expected = processor.feature_extractor(click_song(seconds), sampling_rate=22050, return_tensors="pt")
        frames = expected["input_features"].shape[1]
        torch.testing.assert_close(batch["input_features"][row, :frames], expected["input_features"][0], rtol=0, atol=0)


def test_the_last_code_of_a_song_is_completed_without_beats(batch):
    for features, frames, end in zip(batch["input_features"], (61, 35), (64, 40), strict=True):
        other = [column for column in range(35) if column not in (BEAT, PEAK)]
        last = features[frames - 1, other]
        assert last.abs().max() > 1
        torch.testing.assert_close(features[frames:end][:, other], last.expand(end - frames, -1), rtol=0, atol=0)
        assert not features[frames:end][:, [BEAT, PEAK]].any()
        assert not features[end:].any()


def test_files_waveforms_and_lists_give_the_same(processor, tmp_path):
    path = write_song(tmp_path / "song.wav", seconds=1, rate=15360)
    waveform, rate = load_audio(path)
    inputs = processor(path, genre="rumba")
    assert inputs["input_features"].shape == (1, 32, 35) and inputs["genre_ids"].tolist() == [1]
    for audio, options in (
        (str(path), {}),
        ([path.read_bytes()], {}),
        (waveform, {"sampling_rate": rate}),
        (waveform.tolist(), {"sampling_rate": rate}),
        ([waveform], {"sampling_rate": rate}),
        ({"input_features": song_features(waveform)}, {}),
        ([{"input_features": torch.from_numpy(song_features(waveform))}], {}),
    ):
        torch.testing.assert_close(
            processor(audio, **options)["input_features"], inputs["input_features"], rtol=0, atol=0
        )


def test_without_a_genre_and_as_arrays(processor):
    inputs = processor(click_song(0.3), sampling_rate=22050, return_tensors="np")
    assert set(inputs) == {"input_features", "attention_mask", "num_frames"}
    assert isinstance(inputs["input_features"], np.ndarray) and inputs["input_features"].shape == (1, 16, 35)


def test_wrong_inputs_are_named(processor, tmp_path):
    with pytest.raises(AudioError, match="does not exist"):
        processor(tmp_path / "no.wav", genre="waltz")
    with pytest.raises(AudioError, match="sampling_rate"):
        processor(click_song(1), genre="waltz")
    with pytest.raises(GenreError, match="waltz"):
        processor(tmp_path / "no.wav", genre="walz")  # the genre is asked first: it costs nothing
    for shape in ((4, 35), (30, 34), (1, 30, 35)):
        with pytest.raises(
            ValueError, match=r"input_features has shape .*: give \(frames, 35\) with at least 8 frames"
        ):
            processor({"input_features": np.zeros(shape)}, genre="waltz")
    with pytest.raises(ValueError, match="2 names for 1 songs"):
        processor([click_song(1)], genre=["waltz", "rumba"], sampling_rate=22050)


def shapes(inputs) -> tuple:
    return tuple(inputs["input_features"].shape), inputs["attention_mask"].sum(1).tolist(), inputs["num_frames"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"padding": True}, ((2, 64, 35), [64, 40], [61, 35])),
        ({"padding": "longest"}, ((2, 64, 35), [64, 40], [61, 35])),
        ({"padding": "max_length", "max_length": 100}, ((2, 104, 35), [64, 40], [61, 35])),
        ({"truncation": True, "max_length": 41}, ((2, 48, 35), [48, 40], [41, 35])),
        ({"truncation": True, "max_length": 41, "padding": "max_length"}, ((2, 48, 35), [48, 40], [41, 35])),
        ({"pad_to_multiple_of": 20}, ((2, 80, 35), [64, 40], [61, 35])),
    ],
)
def test_padding_and_truncation(processor, features, options, expected):
    assert shapes(processor(features, **options)) == expected


def test_songs_without_padding(processor, features):
    bare = processor(features, padding=False, return_tensors=None)
    assert [len(row) for row in bare["input_features"]] == [64, 40] and bare["num_frames"] == [61, 35]
    assert processor(features[:1], padding=False)["input_features"].shape == (1, 64, 35)
    assert "attention_mask" not in processor(features, return_attention_mask=False)


@pytest.fixture(scope="module")
def features(batch):
    """The songs of `batch`, as features."""
    return [{"input_features": batch["input_features"][row, :frames]} for row, frames in enumerate((61, 35))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "waltz"}, "text: the processor takes music; the dance is named with genre="),
        ({"images": [1]}, "images: the processor takes music"),
        ({"truncation": True}, "max_length is missing: truncation=True needs it"),
        ({"padding": "max_length"}, "max_length is missing: padding='max_length' needs it"),
        ({"max_length": 64}, "max_length=64 does nothing alone: add truncation=True or"),
        ({"max_length": 40, "padding": "max_length"}, "max_length=40: a song has 61 frames; add truncation=True"),
        ({"max_length": 4, "truncation": True}, "max_length=4: give a whole number of 8 or more"),
        ({"padding": "most"}, "padding='most': give True, False"),
        ({"padding": False}, "padding=False: the songs have 61, 35 frames"),
        ({"return_tensors": "tf"}, "return_tensors='tf': give 'pt', 'np' or None"),
        ({"samplingrate": 1}, "samplingrate is no option of the processor: did you mean 'sampling_rate'"),
        ({"raw_speech": 1}, "audio and raw_speech are both given"),
    ],
)
def test_options_that_do_nothing_are_refused(processor, features, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        processor(features, **options)
    assert "\n" not in str(caught.value)


def test_inputs_move_and_are_never_rounded(processor, features):
    for arguments in (("cpu",), (torch.bfloat16,), ("cpu", torch.float16), ()):
        inputs = processor(features).to(*arguments)
        assert inputs["input_features"].dtype == torch.float32 and inputs["num_frames"] == [61, 35]
    assert processor(features).to(device="cpu", dtype=torch.bfloat16)["input_features"].dtype == torch.float32


def test_other_names_of_the_first_argument(processor, features, batch):
    for name in ("audio", "raw_speech", "audios"):
        inputs = processor(**{name: features})
        torch.testing.assert_close(inputs["input_features"], batch["input_features"], rtol=0, atol=0)
    for nothing in ({}, {"audio": []}):
        with pytest.raises(ValueError, match="audio is"):
            processor(**nothing)


def test_saved_and_loaded_processor_is_the_same(processor, tmp_path):
    MegaDanceProcessor(MegaDanceFeatureExtractor(), genres=GENRES, frames_per_code=4).save_pretrained(tmp_path)
    loaded = MegaDanceProcessor.from_pretrained(tmp_path)
    assert (loaded.genres, loaded.frames_per_code) == (list(GENRES), 4)
    assert loaded.feature_extractor.to_dict() == processor.feature_extractor.to_dict()


# --- a whole model -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("motions", [False, True], ids=["arrays", "motions"])
def test_from_songs_to_dances_as_typed(folder, features, motions):
    """`generate(**processor(...))` and `batch_decode(output)`, nothing in between; as arrays, and as Motions of the package."""
    processor = (PackageProcessor if motions else MegaDanceProcessor).from_pretrained(folder)
    model = MegaDanceForMotionGeneration.from_pretrained(folder)
    inputs = processor(features, genre=["waltz", "rumba"]).to("cpu")
    output = model.generate(**inputs, seed=0, do_sample=True, num_return_sequences=2)
    dances = processor.batch_decode(output)
    if motions:
        assert all(isinstance(dance, Motion) for dance in dances)
        assert [(len(dance), dance.fps, dance.genre) for dance in dances] == [(61, 30, "waltz")] * 2 + [
            (35, 30, "rumba")
        ] * 2
        poses = [dance.poses for dance in dances]
    else:
        assert [(len(dance["poses"]), dance["fps"], dance["genre"]) for dance in dances] == [(61, 30, "waltz")] * 2 + [
            (35, 30, "rumba")
        ] * 2
        poses = [dance["poses"] for dance in dances]
    tokenizer = MegaDanceTokenizer.from_pretrained(folder)
    for dance, expected in zip(poses, processor.post_process_motion(output, tokenizer), strict=True):
        np.testing.assert_array_equal(dance, expected["poses"])
    with pytest.raises(ValueError, match="outputs has 4 dances: use batch_decode"):
        processor.decode(output)
    one = model.generate(**processor(features[0], genre="waltz"))
    decoded = processor.decode(one)
    assert len(decoded if motions else decoded["poses"]) == 61


def test_lengths_come_from_the_output_or_the_argument(processor, tokenizer):
    codes = random_codes(2, 6)
    assert [len(one["poses"]) for one in processor.post_process_motion(codes, tokenizer)] == [48, 48]
    codes.lengths = torch.tensor([6, 3])
    assert [len(one["poses"]) for one in processor.post_process_motion(codes, tokenizer)] == [48, 24]
    codes.num_frames = torch.tensor([45, 19])
    assert [len(one["poses"]) for one in processor.post_process_motion(codes, tokenizer)] == [45, 19]
    for counts in ([20, 21], np.array([20, 21]), torch.tensor([20, 21])):
        assert [len(one["poses"]) for one in processor.post_process_motion(codes, tokenizer, counts)] == [20, 21]
    assert [len(one["poses"]) for one in processor.post_process_motion(codes, tokenizer, 9)] == [9, 9]
    by_name = {"upper_codes": codes.upper_codes, "lower_codes": codes.lower_codes}
    assert [len(one["poses"]) for one in processor.batch_decode(by_name, tokenizer)] == [48, 48]
    for wrong, message in (
        (60, "num_frames=60: 6 codes are 48 frames"),
        ([1, 2, 3], "3 numbers for 2 dances"),
        ("a", "num"),
    ):
        with pytest.raises(ValueError, match=message):
            processor.post_process_motion(codes, tokenizer, wrong)
    assert len(processor.batch_decode((codes.upper_codes, codes.lower_codes), tokenizer)) == 2
    with pytest.raises(ValueError, match="tokenizer of type str: give a MegaDanceTokenizer"):
        processor.batch_decode(codes, "tokenizer")
    with pytest.raises(ValueError, match="outputs of type int has no upper_codes"):
        processor.batch_decode(3, tokenizer)


def test_a_processor_made_by_hand_needs_a_tokenizer(processor):
    with pytest.raises(ModelError, match="tokenizer is missing.*give tokenizer=MegaDanceTokenizer.from_pretrained"):
        processor.batch_decode(random_codes(1, 2))


def test_genres_come_from_the_configuration_if_only_a_feature_extractor_was_saved(folder):
    assert not (folder / "processor_config.json").exists()
    assert MegaDanceProcessor.from_pretrained(folder).genres == list(GENRES)


def test_folders_of_other_models_are_refused(folder):
    with pytest.raises(ModelError, match="is of type 'megadance_tokenizer', which takes motion, not music"):
        MegaDanceProcessor.from_pretrained(folder / "tokenizer")


def test_saved_with_the_generator_it_makes_a_whole_model(folder, tmp_path, features):
    MegaDanceProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    MegaDanceForMotionGeneration.from_pretrained(folder).save_pretrained(tmp_path)
    dance, expected = (MusicToDancePipeline.from_pretrained(place)(features[0], seed=1) for place in (tmp_path, folder))
    np.testing.assert_array_equal(dance.poses, expected.poses)


def test_the_bundled_model_by_its_name():
    assert PackageProcessor.from_pretrained().genres == PackageProcessor.from_pretrained("ballroom").genres


# --- codes to poses --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return tiny_tokenizer()


def random_codes(batch: int, steps: int) -> SimpleNamespace:
    return SimpleNamespace(upper_codes=torch.randint(27, (batch, steps)), lower_codes=torch.randint(27, (batch, steps)))


def test_without_floor_the_path_is_the_sum_of_the_decoded_velocities(processor, tokenizer):
    codes = random_codes(2, 5)
    dances = processor.post_process_motion(codes, tokenizer, floor=False, start=(1.0, 2.0, 3.0), clean=False)
    with torch.no_grad():
        poses, translation = motion_to_poses(tokenizer.decode(codes.upper_codes, codes.lower_codes))
    for dance, pose, path in zip(dances, poses, translation, strict=True):
        assert dance["poses"].shape == (40, 24, 3) and dance["poses"].dtype == np.float32
        np.testing.assert_allclose(dance["poses"], pose.numpy(), atol=1e-5)
        np.testing.assert_allclose(dance["translation"], (path + torch.tensor([1.0, 2.0, 3.0])).numpy(), atol=1e-6)


def test_a_dance_without_a_start_begins_on_the_floor_at_the_origin(processor, tokenizer):
    (dance,) = processor.post_process_motion(random_codes(1, 3), tokenizer, floor=False, clean=False)
    assert dance["translation"][0, [0, 2]].tolist() == [0, 0]
    joints = joints_of(torch.from_numpy(dance["poses"]), torch.from_numpy(dance["translation"]))
    assert abs(joints[0, :, 1].min()) < 1e-6


@pytest.mark.parametrize("options", [{}, {"heading": "turn", "contacts": True}], ids=str)
@pytest.mark.parametrize("ends", [{}, {"begins": False}, {"begins": False, "ends": False}], ids=str)
def test_dances_are_cleaned_unless_told_otherwise(processor, options, ends):
    codes, tokenizer = random_codes(1, 13), tiny_tokenizer(**options)
    (raw,) = processor.post_process_motion(codes, tokenizer, 99, floor=False, clean=False)
    (cleaned,) = processor.post_process_motion(codes, tokenizer, 99, **ends)
    contacts = tokenizer.decode(codes.upper_codes, codes.lower_codes, output_contacts=True).contacts
    contacts = None if contacts is None else contacts[0, :99].detach()
    arrays = (torch.from_numpy(raw[name]) for name in ("poses", "translation"))
    poses, translation, report = clean_motion(*arrays, 30, True, contacts, **{"begins": True, "ends": True, **ends})
    np.testing.assert_allclose(cleaned["poses"], poses.numpy(), atol=1e-5)
    np.testing.assert_allclose(cleaned["translation"], translation.numpy(), atol=1e-5)
    assert raw["metadata"] == {}
    assert cleaned["metadata"] == {"clean_up": pytest.approx(report.to_dict(), abs=1e-3)}
    assert processor.decode(codes, tokenizer)["metadata"].keys() == {"clean_up"}


def test_the_heading_of_the_first_frame(processor):
    codes = random_codes(1, 6)
    for heading in ("turn", "absolute"):
        tokenizer = tiny_tokenizer(heading=heading)
        ahead, turned = (
            processor.post_process_motion(codes, tokenizer, clean=False, heading=angle)[0] for angle in (None, 2.0)
        )
        facing = [
            root_heading(poses_to_motion(torch.from_numpy(dance["poses"][:1]), torch.zeros(1, 3)))
            for dance in (ahead, turned)
        ]
        assert float(facing[1] - facing[0]) == pytest.approx(2.0 if heading == "turn" else 0, abs=1e-5)
        assert heading == "absolute" or abs(float(facing[0])) < 1e-5


def test_padding_does_not_change_the_end_of_a_dance(processor, tokenizer):
    codes = random_codes(2, 6)
    long, short = processor.post_process_motion(codes, tokenizer, num_frames=[45, 19])
    assert (len(long["poses"]), len(short["translation"])) == (45, 19)
    codes.upper_codes[1, 3:] = 0
    codes.lower_codes[1, 3:] = 26
    again = processor.post_process_motion(codes, tokenizer, num_frames=[45, 19])[1]
    np.testing.assert_array_equal(again["poses"], short["poses"])
    np.testing.assert_array_equal(again["translation"], short["translation"])


# --- the floor -------------------------------------------------------------------------------------------------------


def joints_of(poses, translation) -> torch.Tensor:
    return forward_kinematics(axis_angle_to_matrix(poses), translation)


def slow_ground(lowest: np.ndarray, fps: float, window: float) -> np.ndarray:
    """The floor line, frame by frame."""
    half, count = max(1, round(window * fps / 4)), len(lowest)

    def at(values, index):
        return values[min(max(index, 0), count - 1)]

    floor = np.zeros(count)
    for _ in range(2):
        left = lowest - floor
        minimum = np.array([left[max(0, i - 2 * half) : i + 2 * half + 1].min() for i in range(count)])
        weights = np.convolve(np.ones(2 * half + 1), np.ones(2 * half + 1)) / (2 * half + 1) ** 2
        floor = floor + [sum(w * at(minimum, i + k - 2 * half) for k, w in enumerate(weights)) for i in range(count)]
    return np.minimum(floor, lowest)


@pytest.mark.parametrize(("frames", "fps", "window"), [(1, 30, 1.0), (5, 30, 1.0), (90, 30, 1.0), (60, 20, 0.5)])
def test_floor_equals_its_slow_twin(frames, fps, window):
    generator = torch.Generator().manual_seed(frames)
    poses = torch.randn(frames, 24, 3, generator=generator, dtype=torch.float64) * 0.3
    translation = torch.randn(frames, 3, generator=generator, dtype=torch.float64).cumsum(0) * 0.05
    grounded = ground_translation(poses, translation, fps, window)
    lowest = joints_of(poses, translation)[..., 1].amin(-1).numpy()
    np.testing.assert_allclose((translation - grounded)[:, 1], slow_ground(lowest, fps, window), atol=1e-12)
    assert torch.equal(grounded[:, [0, 2]], translation[:, [0, 2]])


@given(st.integers(1, 80), st.integers(0, 9), st.floats(0.1, 3.0))
def test_nothing_ever_lies_below_the_floor(frames, seed, window):
    generator = torch.Generator().manual_seed(seed)
    poses = torch.randn(2, frames, 24, 3, generator=generator)
    translation = torch.randn(2, frames, 3, generator=generator).cumsum(1)
    joints = joints_of(poses, ground_translation(poses, translation, window=window))
    assert joints[..., 1].min() > -1e-5


def standing(frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    poses = torch.zeros(frames, 24, 3)
    height = -joints_of(poses[0], torch.zeros(3))[:, 1].min()
    return poses, torch.stack([torch.zeros(frames), height.expand(frames), torch.zeros(frames)], -1)


def test_steady_drift_vanishes_and_a_jump_stays():
    poses, path = standing(300)
    jump = torch.zeros(300)
    jump[140:155] = 0.3 * torch.sin(torch.linspace(0, torch.pi, 15))  # half a second in the air
    drift = torch.linspace(0, 0.5, 300)
    disturbed = path.clone()
    disturbed[:, 1] += jump + drift - 0.7
    grounded = ground_translation(poses, disturbed)
    error = (grounded[:, 1] - path[:, 1] - jump).abs()
    assert error[60:100].max() < 1e-4  # at the very ends the floor's slope is not known
    assert error[60:240].max() < 0.01  # nor exactly under a jump
    assert grounded[147, 1] > path[147, 1] + 0.28


def test_real_dances_hardly_change_but_lose_their_drift(ballroom_dir):
    from megadance_hf.motion.motion import Motion

    for name in ("waltz_20", "rumba_4", "chacha_2a"):
        motion = Motion.load(ballroom_dir / "motions" / f"{name}.npz")
        poses, translation = torch.from_numpy(motion.poses), torch.from_numpy(motion.translation)
        grounded = ground_translation(poses, translation)
        assert (grounded - translation)[:, 1].abs().median() < 0.03
        drift = torch.zeros_like(translation)
        drift[:, 1] = 0.3 * torch.sin(torch.arange(len(motion)) / 180)
        again = ground_translation(poses, translation + drift)
        assert (again - grounded)[:, 1].abs().max() < 0.03
        feet = joints_of(poses, again)[:, list(CONTACT_JOINTS), 1].amin(-1)
        assert feet.median() < 0.015 and feet.min() > -1e-5
