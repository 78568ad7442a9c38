"""A dance to live music, compared with that to the whole song."""

import importlib
import re

import numpy as np
import pytest
import torch
from helpers import click_song, noisy_song, save_tiny_model, tiny_generator, tiny_tokenizer, write_song

from megadance_hf.modeling import streaming_megadance
from megadance_hf.modeling.audio_megadance import AudioError, load_audio
from megadance_hf.modeling.clean_up_megadance import CleanUpStream
from megadance_hf.modeling.codecs_megadance import decoder_reach
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.generation_megadance import MegaDanceGenerateOutput
from megadance_hf.modeling.genres_megadance import GenreError
from megadance_hf.modeling.music_features_megadance import BEAT, CHROMA, MFCC, ONSET_ENVELOPE, music_features
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
from megadance_hf.modeling.rhythm_megadance import phase_vectors, steady_rhythm
from megadance_hf.modeling.streaming_megadance import (
    CodeStream,
    DanceStream,
    LiveMusic,
    PoseStream,
    expected_rows,
    live_rhythm,
    steady_phase,
)
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline

STEP = 8 * 512  # samples of a code step at 15360 Hz


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return MusicToDancePipeline.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")))


def whole(chunks) -> Motion:
    chunks = list(chunks)
    return Motion(*(np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("poses", "translation")))


def same(one: Motion, other: Motion, tolerance: float = 1e-5) -> bool:
    """The same joints; a rotation of half a turn has two axes."""
    return len(one) == len(other) and np.abs(one.joints() - other.joints()).max() < tolerance


# --- codes -----------------------------------------------------------------------------------------------------------

MODELS = {
    "released": {},
    "ahead": {"music_lookahead": 1, "music_reduction": "stack"},
    "rhythm": {"music_lookahead": 1, "music_reduction": "stack", "rhythm_size": 8, "rhythm_layers": 2},
}


def pieces_of(model, features):
    """What each code from the second on is predicted from, as `generate` cuts it."""
    rhythm = model.model.encode_rhythm(features[None])
    ahead = model.config.music_lookahead
    for index in range(1, len(features) // 8):
        piece = slice(8 * (index - 1), 8 * (index + ahead))
        yield features[piece], None if rhythm is None else rhythm[0, piece]


@pytest.mark.versions
@pytest.mark.parametrize("guidance", [{}, {"guidance_scale": 2.0}], ids=str)
@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_codes_are_those_of_generate(kind, guidance):
    model, features = tiny_generator(**MODELS[kind]), torch.randn(8 * 30, 35)
    options = {"do_sample": True, "temperature": 0.8, "top_k": 12, **guidance}
    expected = model.generate(features[None], torch.tensor([1]), mode="stream", seed=3, **options)
    stream = CodeStream(model, 1, 3, **options)
    for piece in pieces_of(model, features):
        stream.extend(*piece)
    assert torch.equal(stream.codes, torch.cat((expected.upper_codes, expected.lower_codes)))
    assert len(stream.codes.unique()) > 5, "a dance of one code would show nothing"


@pytest.mark.parametrize("guidance", [{}, {"guidance_scale": 2.0, "attribute_guidance_scale": 1.5}], ids=str)
@torch.no_grad()
def test_attributes_of_a_stream_are_those_of_generate(guidance):
    model = tiny_generator(attributes=["speed", "turns"], **MODELS["rhythm"])
    model.model.attribute_embedding.vectors.weight *= 50  # so that codes differ
    features, asked = torch.randn(8 * 20, 35), torch.tensor([0.9, torch.nan])
    options = {"do_sample": True, "temperature": 0.8, **guidance}
    expected, other = (
        model.generate(features[None], torch.tensor([1]), mode="stream", seed=3, attributes=attributes, **options)
        for attributes in (asked[None], None)
    )
    stream = CodeStream(model, 1, 3, attributes=asked, **options)
    for piece in pieces_of(model, features):
        stream.extend(*piece)
    assert torch.equal(stream.codes, torch.cat((expected.upper_codes, expected.lower_codes)))
    assert not torch.equal(expected.upper_codes, other.upper_codes)
    with pytest.raises(ValueError, match=r"attributes has shape \(1, 3\)"):
        CodeStream(model, 1, 3, attributes=torch.rand(3))


@pytest.mark.versions
@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_foreseen_codes_are_the_later_ones_and_the_state_is_unchanged(kind):
    model, features = tiny_generator(**MODELS[kind]), torch.randn(8 * 30, 35)
    plain, foreseeing = (CodeStream(model, 2, 5, do_sample=True) for _ in range(2))
    pieces = list(pieces_of(model, features))
    foreseen = {}
    for index, piece in enumerate(pieces):
        if index < 25:
            foreseen[index] = foreseeing.foresee(pieces[index : index + 4])
        plain.extend(*piece)
        foreseeing.extend(*piece)
    assert torch.equal(plain.codes, foreseeing.codes)
    for index, codes in foreseen.items():
        assert torch.equal(codes, plain.codes[:, 1 + index : 5 + index])
    assert foreseeing.foresee([]).shape == (2, 0)


# --- poses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"heading": "turn"}, {"heading": "turn", "contacts": True}], ids=str)
@pytest.mark.parametrize("floor", [True, False])
def test_frames_after_waiting_are_those_of_one_decoding(floor, options):
    tokenizer, codes = tiny_tokenizer(**options), torch.randint(27, (2, 40))
    processor = MegaDanceProcessor(MegaDanceFeatureExtractor(), ["waltz"])
    outputs = MegaDanceGenerateOutput(codes[:1], codes[1:])
    expected = processor.post_process_motion(outputs, tokenizer, 317, floor=floor, clean=False)[0]
    stream, cleaned = PoseStream(tokenizer, floor, clean=False), PoseStream(tokenizer, floor)
    chunks, clean_chunks = [], []
    wait = decoder_reach(tokenizer.config) + (9 if floor else 0)  # nine codes: as far as the floor is seen
    for known in range(1, 41):
        chunk = stream.push(codes[:, :known], 8 * (known - wait))
        assert (chunk is None) == (known <= wait)
        clean_chunk = cleaned.push(codes[:, :known], 8 * (known - wait))
        if chunk:
            chunks.append(chunk)
            clean_chunks.append(clean_chunk)
    chunks.append(stream.push(codes, 317))
    clean_chunks.append(cleaned.push(codes, 317))
    assert [chunk.first_frame for chunk in chunks] == list(range(0, 8 * (40 - wait) + 1, 8))
    assert same(whole(chunks), Motion(**expected), 1e-3)
    # the clean-up is given the contacts of the same frames
    contacts = tokenizer.decode(*codes[:, None], output_contacts=True).contacts
    given = None if contacts is None else contacts[0, :317].detach()
    arrays = (torch.from_numpy(getattr(whole(chunks), name)) for name in ("poses", "translation"))
    poses, translation = CleanUpStream().push(*arrays, given)
    assert same(whole(clean_chunks), Motion(poses.numpy(), translation.numpy()), 1e-3)


@pytest.mark.parametrize("options", [{}, {"heading": "turn"}, {"heading": "turn", "contacts": True}], ids=str)
def test_early_frames_continue_without_a_jump(options):
    tokenizer, codes = tiny_tokenizer(**options), torch.randint(27, (2, 40))
    streams = [PoseStream(tokenizer, floor, clean=False) for floor in (True, False)]
    dances = [whole(stream.push(codes[:, :known], 8 * known) for known in range(1, 41)) for stream in streams]
    speed = np.linalg.norm(np.diff(dances[0].joints(), axis=0), axis=-1).max(1)
    seams = np.arange(7, len(speed), 8)
    assert speed[seams].max() <= 1.2 * np.delete(speed, seams).max(), "no jump at the seams"
    # the twin without blending: each chunk as the codes known so far decode it
    jumps = []
    for known in range(2, 41):
        before, after = (tokenizer.decode(*codes[:, None, :n]).detach()[0] for n in (known - 1, known))
        jumps.append(float((after[8 * known - 9] - before[8 * known - 9]).abs().max()))
    assert np.mean(jumps) > 0.05, "or there would be nothing to blend"
    assert dances[0].joints()[..., 1].min() > -1e-4, "on the floor"
    assert np.array_equal(dances[0].poses, dances[1].poses)


def test_chunks_are_cleaned_by_the_frames_before_them():
    tokenizer, codes = tiny_tokenizer(), torch.randint(27, (2, 20))
    streams = [PoseStream(tokenizer, clean=clean) for clean in (False, True)]
    raw, cleaned = ([stream.push(codes[:, :n], 8 * n) for n in range(1, 21)] for stream in streams)
    clean_up = CleanUpStream()
    for before, after in zip(raw, cleaned, strict=True):
        poses, translation = clean_up.push(torch.from_numpy(before.poses), torch.from_numpy(before.translation))
        np.testing.assert_array_equal(after.poses, poses.numpy())
        np.testing.assert_array_equal(after.translation, translation.numpy())
    assert not same(whole(raw), whole(cleaned))


# --- music -----------------------------------------------------------------------------------------------------------


def listen(sound: np.ndarray, blocks: int) -> LiveMusic:
    music = LiveMusic(MegaDanceFeatureExtractor(), 15360, 8)
    for block in np.array_split(sound, blocks):
        music.push(block)
        while music.ready():
            music.advance()
    return music


def test_features_of_live_music_settle_to_those_of_the_song():
    sound = noisy_song(9.6)
    expected, music = music_features(sound)[:288], listen(sound, 37)
    assert music.steps == 36 and music.rows.shape == (288, 35) and music.first_row == 0
    settled = slice(0, 288 - 24)
    np.testing.assert_allclose(music.rows[settled, ONSET_ENVELOPE], expected[settled, ONSET_ENVELOPE], atol=0.3)
    np.testing.assert_allclose(music.rows[4:264, MFCC], expected[4:264, MFCC], atol=2.0)
    assert np.corrcoef(music.rows[settled, CHROMA].ravel(), expected[settled, CHROMA].ravel())[0, 1] > 0.95
    beats = np.flatnonzero(music.with_expected(60)[:, BEAT])
    assert np.abs(np.diff(beats[1:]) - 15).max() <= 1, "two beats a second, and on into what is expected"
    assert beats.max() > 288 + 30


def test_loudness_is_relative_to_the_loudest_so_far():
    sound = noisy_song(8.0)
    sound[: 4 * 15360] *= 0.1
    quiet_first = listen(sound, 11).rows[:, 0]
    expected = music_features(sound)[: len(quiet_first), 0]
    assert np.abs(quiet_first - expected)[4:-4].max() < 0.1 * np.ptp(expected)
    assert expected[20:100].mean() < expected[140:220].mean() - 100


def test_memory_does_not_grow():
    music = LiveMusic(MegaDanceFeatureExtractor(), 15360, 8)
    sound = np.tile(noisy_song(2.0), 13)
    for block in np.array_split(sound, 100):
        music.push(block)
        while music.ready():
            music.advance()
    assert music.samples == len(sound) and len(music._sound) < 5 * 15360
    assert len(music.rows) == 600 and music.first_row + 600 == 8 * music.steps


def test_expected_music_repeats_its_period():
    rows = np.random.default_rng(0).random((50, 35), dtype=np.float32)
    song = np.tile(rows, (6, 1))
    np.testing.assert_array_equal(expected_rows(song[:237], 60), song[237 : 237 + 60])
    first = expected_rows(song[:5], 3)
    np.testing.assert_array_equal(first, np.repeat(song[4:5], 3, axis=0))


def test_phase_is_extrapolated_at_a_constant_rate():
    frames = torch.arange(400)
    clean = phase_vectors(frames / 17.3 % 1, frames / (3 * 17.3) % 1)
    heard = clean + 0.3 * torch.randn(400, 4)
    heard[300:] = torch.randn(100, 4) * 0.2  # unsure, and what was not heard at all
    steady = steady_phase(heard, 315)
    assert torch.equal(steady[:300], heard[:300])
    cosines = [(steady[300:, c : c + 2] * clean[300:, c : c + 2]).sum(1) for c in (0, 2)]
    lengths = [steady[300:, c : c + 2].norm(dim=1) for c in (0, 2)]
    for cosine, length in zip(cosines, lengths, strict=True):
        assert (cosine / length)[:60].min() > 0.9 and length.mean() > 0.8
    unsteady = steady_phase(torch.randn(400, 4), 400)[385:]
    assert unsteady.norm(dim=1).max() < 0.5, "vectors that don't agree make a short one"
    assert torch.equal(steady_phase(heard[:60], 60), heard[:60]), "too little to tell"


def test_a_steady_tempo_goes_on_in_what_is_expected():
    model = tiny_generator(**MODELS["rhythm"], rhythm_tempo="steady")
    beats = torch.arange(664) / 30 * 97 / 60
    true = phase_vectors(beats % 1, beats / 4 % 1)
    heard = true + torch.randn(true.shape) * 0.3
    heard[200:290, :2] *= -1  # the half beat for the beat
    heard[600:] = torch.randn(64, 4)  # what was not heard at all has no influence
    model.model.read_rhythm = lambda rows: heard[: rows.shape[1]][None]
    for frames in (600, 72, 8):
        rhythm = live_rhythm(model, torch.zeros(frames + 64, 35), frames)
        expected = steady_rhythm(heard[None, :frames])[0]
        torch.testing.assert_close(rhythm[:frames], expected, rtol=0, atol=0)
        for _ in range(64):  # what the last frame but one turned by, again and again
            turned = [torch.complex(*expected[:, part].T).to(torch.complex128) for part in (slice(0, 2), slice(2, 4))]
            following = torch.stack([vector[-1] * vector[-1] / vector[-2] for vector in turned])
            expected = torch.cat((expected, torch.view_as_real(following).flatten()[None].float()))
        torch.testing.assert_close(rhythm, expected, rtol=0, atol=2e-3)
        if frames == 600:
            for part in (slice(0, 2), slice(2, 4)):
                assert torch.cosine_similarity(rhythm[:, part], true[:, part], dim=-1).min() > 0.95
    model.config.rhythm_tempo = "free"
    rhythm = live_rhythm(model, torch.zeros(664, 35), 600)
    torch.testing.assert_close(rhythm, steady_phase(heard, 600), rtol=0, atol=0)
    assert live_rhythm(tiny_generator(), torch.zeros(72, 35), 8) is None


# --- the whole -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [6 * STEP, 6 * STEP + 100, 6 * STEP + 2000, 7 * STEP - 100, 3000])
def test_a_dance_is_as_long_as_its_music(pipe, samples):
    chunks = list(pipe.stream([noisy_song(samples / 15360)], 15360, "rumba", seed=0))
    frames = (samples + 256) // 512
    assert sum(map(len, chunks)) == frames
    assert [chunk.metadata["first_frame"] for chunk in chunks] == [0, *np.cumsum([len(chunk) for chunk in chunks])[:-1]]
    assert chunks[0].fps == 30 and chunks[0].genre == "rumba" and chunks[0].metadata["seed"] == 0


@pytest.mark.versions
def test_the_size_of_blocks_does_not_matter(pipe):
    sound = click_song(2.0, 44100)
    dance = whole(pipe.stream([sound], 44100, "waltz", seed=1))
    assert len(dance) == 60
    assert same(dance, whole(pipe.stream(np.array_split(sound, 90), 44100, "waltz", seed=1)))
    stereo = np.round(np.stack((sound, sound), axis=1) * 32768).astype(np.int16)
    empty = np.zeros((0, 2), np.int16)
    assert same(dance, whole(pipe.stream([empty, *np.array_split(stereo, 7), empty], 44100, " WALTZ", seed=1)), 1e-3)
    assert not same(dance, whole(pipe.stream([sound], 44100, "waltz", seed=2)), 1e-3)
    others = [whole(pipe.stream([sound], 44100, genre, seed=1)) for genre in ("rumba", "chacha")]
    assert not any(same(dance, other, 1e-3) for other in others)


@pytest.mark.parametrize("wait", [0, 2])
def test_chunks_arrive_during_the_music(pipe, wait):
    heard = []

    def blocks():
        for block in np.split(noisy_song(6 * STEP / 15360), 12):
            heard.append(len(block))
            yield block

    for number, chunk in enumerate(pipe.stream(blocks(), 15360, seed=0, wait_codes=wait)):
        assert sum(heard) == min(number + 1 + wait, 6) * STEP, "as soon as the step is in, and nothing is fetched ahead"
        assert chunk.metadata["heard"] == pytest.approx(sum(heard) / 15360)
        assert len(chunk) == (8 if number < 6 - wait else 8 * wait)


def test_silence_gets_a_dance(pipe):
    sound = np.concatenate((np.zeros(8000), noisy_song(1.5), np.zeros(8000)))
    assert len(whole(pipe.stream(np.array_split(sound, 20), 15360, seed=0))) == 76
    assert len(whole(pipe.stream([np.zeros(15360)], 15360, seed=0))) == 30


@pytest.mark.parametrize("tempo", ["free", "steady"])
def test_a_look_ahead_and_a_rhythm_encoder(tempo):
    model, tokenizer, dances = tiny_generator(**MODELS["rhythm"], rhythm_tempo=tempo), tiny_tokenizer(), []
    for blocks in (1, 9):
        stream = DanceStream(model, tokenizer, MegaDanceFeatureExtractor(), 1, 15360, 0, do_sample=True)
        if blocks == 9:
            stream.warm_up()  # changes nothing
        chunks = [chunk for block in np.array_split(noisy_song(4.0), blocks) for chunk in stream.push(block)]
        dances.append(whole([*chunks, *stream.finish()]))
    assert len(dances[0]) == 120 and same(*dances)


@torch.no_grad()
def test_a_stream_fits_its_tempo_to_the_last_seconds(monkeypatch):
    monkeypatch.setattr(streaming_megadance, "_HISTORY_ROWS", 120)
    model, known, pieces = tiny_generator(**MODELS["rhythm"], rhythm_tempo="steady"), [], []
    stream = DanceStream(model, tiny_tokenizer(), MegaDanceFeatureExtractor(), 1, 15360, 0, guess_codes=0, clean=False)
    with_expected, extend = stream._music.with_expected, stream._codes.extend
    stream._music.with_expected = lambda count: known.append(with_expected(count)) or known[-1]
    stream._codes.extend = lambda features, rhythm: pieces.append(rhythm) or extend(features, rhythm)
    for block in np.array_split(noisy_song(6.0), 9):
        list(stream.push(block))
    assert [len(rows) - 60 for rows in known] == [*range(8, 120, 8), *[120] * 8], "the past is bounded"
    # the twin: everything that is known then, read and fitted anew; the first code is given
    for rows, piece in zip(known[1:], pieces, strict=True):
        read = model.model.read_rhythm(torch.from_numpy(rows)[None])[:, :-60]
        torch.testing.assert_close(piece, steady_rhythm(read)[0, -16:], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sampling_rate": None}, AudioError, "sampling_rate=None: give the rate"),
        ({"sampling_rate": 0}, AudioError, "sampling_rate=0"),
        ({"wait_codes": -1}, ValueError, "wait_codes=-1: give a whole number"),
        ({"guess_codes": 1.5}, ValueError, "guess_codes=1.5"),
        ({"genre": "polka"}, GenreError, "polka"),
        ({"temperature": 0.0}, ValueError, "temperature=0.0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"hopping": 3}, ValueError, "hopping"),
        ({"num_return_sequences": 2}, ValueError, "num_return_sequences"),
        ({"floor": "no"}, ValueError, "floor='no': give True or False"),
        ({"wait_codes": True}, ValueError, "wait_codes=True: give a whole number"),
        ({"generate_kwargs": {"mode": "paper"}}, ValueError, "mode is no option of a stream: it never slides"),
        ({"generate_kwargs": {"start": 3.0}}, ValueError, "start is no option of a stream: give the blocks"),
        ({"generate_kwargs": {"top_k": 5}, "top_k": 6}, ValueError, "top_k is given beside generate_kwargs and in it"),
    ],
)
def test_wrong_arguments_are_errors_at_once(pipe, arguments, error, message):
    with pytest.raises(error, match=message):
        pipe.stream([], **{"sampling_rate": 44100, **arguments})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 3}, "max_new_tokens=3 is no option of a stream, which ends when its music does"),
        (
            {"genre_guidance_scale": 2.0},
            "genre_guidance_scale=2.0 is no option of a stream, which has no negative genres",
        ),
        ({"min_length": 3}, "min_length=3: a dance is never longer than its music"),
        ({"num_beams": 2}, "num_beams=2: there is no beam search"),
        ({"temprature": 0.5}, "temprature is no option of a stream: did you mean 'temperature'?"),
        ({"top_k": -1, "do_sample": True}, "top_k=-1: give a whole number of 0 or more"),
        ({"temperature": 0.5}, "temperature=0.5 does nothing without sampling"),
        ({"suppress_tokens": [99]}, "give codes of 0 to 26"),
        ({"mode": "paper"}, "mode is no option of a stream"),
        ({"use_cache": False}, "use_cache is no option of a stream"),
        ({"num_return_sequences": 2}, "num_return_sequences is no option of a stream"),
    ],
)
def test_options_without_effect_on_a_stream_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        CodeStream(tiny_generator(), 1, 0, **options)


def test_blocks_that_cannot_be_used(pipe):
    broken = noisy_song(1.0)
    broken[7000] = np.nan
    with pytest.raises(AudioError, match="block holds NaN or infinity at 1.46 s"):
        list(pipe.stream([noisy_song(1.0), broken], 15360))
    with pytest.raises(AudioError, match="block of type str"):
        list(pipe.stream(["song.mp3"], 15360))
    with pytest.raises(AudioError, match="blocks hold 100 samples in all"):
        list(pipe.stream([np.ones(100)], 15360))
    stream = DanceStream(pipe.model, pipe.tokenizer, MegaDanceFeatureExtractor(), 1, 15360, 0)
    list(stream.push(noisy_song(0.3)))
    list(stream.finish())
    assert list(stream.finish()) == []
    with pytest.raises(ValueError, match="stream is finished"):
        stream.push(noisy_song(0.3))


def test_the_example(pipe, repository, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(repository / "examples"))
    main = importlib.import_module("stream_dance").main
    song = write_song(tmp_path / "song.wav", 2.0)
    model = tmp_path / "model"
    pipe.save_pretrained(model)
    dance = main([str(song), "--model", str(model), "--seed", "0", "--fast", "-o", str(tmp_path / "dance.npz")])
    assert len(dance) == 60 and same(Motion.load(tmp_path / "dance.npz"), dance)
    assert capsys.readouterr().out.startswith("frames 0 to 7: 0.27 s of music heard, ")
    sound, rate = load_audio(song, sampling_rate=None)
    assert same(whole(pipe.stream([sound], rate, seed=0)), dance)
