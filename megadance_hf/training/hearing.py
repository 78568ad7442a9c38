"""Fitting of a model's hearing: which of its genres a song is for (`modeling/hearing_megadance.py`). Not in the paper.

Songs are few, so everything is made for not learning recordings: each song counts the same, whatever its length, and so does each genre;
songs are heard in windows of several lengths, also a little slower and faster; and weights are shrunk. The temperature of the probabilities
is that of songs that were left out of the fit. What is none of the genres is learned from songs at tempos far from their own, from
composed songs of other styles, and from noise.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megadance_hf.data.augmentation import stretch_features
from megadance_hf.data.clip import FPS, Clip
from megadance_hf.data.splits import songs_of
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.files_megadance import whole
from megadance_hf.modeling.folders_megadance import CONFIG, WEIGHTS
from megadance_hf.modeling.hearing_megadance import LEAST_FRAMES, GenreHearing, share_none, song_statistics
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.music_features_megadance import SAMPLING_RATE, song_features
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.synthetic.composer import STYLES, composed_clip

from .processes import is_main_process, print_once

# Frames of the windows, and how many of each, evenly spread over the song; and the whole song.
WINDOWS = ((300, 5), (450, 3), (900, 3), (1800, 2))
# How much longer a song lasts that is still for its genre, and one that is for none of them; windows of each.
_SIMILAR, _FOREIGN = ((0.94, 2), (1.06, 2)), ((0.65, 1), (0.75, 1), (0.82, 1), (1.25, 1), (1.4, 1), (1.6, 1))
_STRETCHED = (300, 900)  # frames of their windows
_FOLDS = 40  # so many songs are left out one by one; of more songs, groups of them
_TEMPERATURES = np.exp(np.linspace(-1.5, 1.5, 61))


@dataclass(frozen=True)
class HearingSettings:
    """How the hearing is fitted.

    Attributes:
        shrinkage: penalty of the squared weights; more of it makes smaller weights, and genres less sure.
        none: weight of what is none of the genres, where a genre has 1.
        composed_songs: how many composed songs of other styles than the genres stand for other music, 0 to 1000.
        noises: how many noises stand for what is no music, 0 to 1000.
        seed: of windows and noises.
    """

    shrinkage: float = 0.003
    none: float = 0.5
    composed_songs: int = 24
    noises: int = 18
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fits, remedy in (
            ("shrinkage", self.shrinkage > 0, "a number above 0"),
            ("none", 0 <= self.none <= 100, "0 to 100"),
            ("composed_songs", 0 <= self.composed_songs <= 1000, "0 to 1000"),
            ("noises", 0 <= self.noises <= 1000, "0 to 1000"),
            ("seed", self.seed >= 0, "0 or more"),
        ):
            if not fits:
                raise ValueError(f"{name}={getattr(self, name)!r} is not possible: give {remedy}")


@dataclass
class Heard:
    """Windows of songs, as they are fitted.

    Attributes:
        statistics: [windows, statistics] float64.
        labels: [windows], genre ids; the number of genres for none of them.
        songs: of each window; songs with the same number are left out together.
        plain: [windows] bool: those of a song as it is, neither slower nor faster.
    """

    statistics: Tensor
    labels: Tensor
    songs: Tensor
    plain: Tensor


# --- what is heard -------------------------------------------------------------------------------------------------


def hear_songs(
    model: MegaDanceForMotionGeneration,
    clips: Sequence[Clip],
    settings: HearingSettings | None = None,
    describe: Callable[[np.ndarray], Tensor] | None = None,
) -> Heard:
    """Windows of the clips' songs, and of what is none of the model's genres, as the model hears them, or as `describe` does:
    features (frames, 35) -> [statistics]."""
    settings, genres = settings or HearingSettings(), model.config.genres
    describe = describe or partial(listen, model)
    generator = np.random.default_rng(settings.seed)
    rows, labels, songs, plain = [], [], [], []

    def add(pieces: Iterable[np.ndarray], label: int, song: int, as_it_is: bool = True) -> None:
        for piece in pieces:
            if len(piece) < LEAST_FRAMES:
                continue
            rows.append(describe(piece))
            labels.append(label)
            songs.append(song)
            plain.append(as_it_is)

    longest = _songs(clips, genres)
    bar = progress_bar(longest.items(), desc="hearing", unit="song", disable=not is_main_process())
    for (song, genre), clip in bar:
        assert clip.input_features is not None
        label = genres.index(genre)
        add(_windows(clip.input_features), label, song)
        for stretches, one in ((_SIMILAR, label), (_FOREIGN, len(genres))):
            for factor, count in stretches:
                stretched = stretch_features(clip.input_features, factor)
                add(_random_windows(stretched, count, generator), one, song, as_it_is=False)
    number = max((song for song, _ in longest), default=-1)
    for index, piece in enumerate((*_other_music(settings.composed_songs, genres), *_noises(settings)), number + 1):
        add(_random_windows(piece, 2, generator), len(genres), index, as_it_is=False)
    if not rows:
        return Heard(torch.zeros(0, 0), *(torch.zeros(0, dtype=torch.long) for _ in range(3)))
    return Heard(torch.stack(rows), torch.tensor(labels), torch.tensor(songs), torch.tensor(plain))


@torch.no_grad()
def listen(model: MegaDanceForMotionGeneration, features: np.ndarray) -> Tensor:
    """The `song_statistics` of features (frames, 35)."""
    piece = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    rhythm = model.model.read_rhythm(piece[None])
    assert rhythm is not None
    return song_statistics(piece, rhythm[0])


def _songs(clips: Sequence[Clip], genres: Sequence[str]) -> dict[tuple[int, str], Clip]:
    """The longest clip of each song and genre."""
    known = [clip for clip in clips if clip.paired and clip.genre in genres]
    longest: dict[tuple[int, str], Clip] = {}
    for clip, song in zip(known, songs_of(known), strict=True):
        assert clip.genre is not None
        before = longest.get((song, clip.genre))
        if before is None or len(clip) > len(before):
            longest[song, clip.genre] = clip
    return longest


def _windows(features: np.ndarray) -> list[np.ndarray]:
    """Windows of several lengths, and all of it."""
    pieces = [features]
    for length, count in WINDOWS:
        if len(features) >= length + 2 * FPS:
            starts = np.linspace(0, len(features) - length, count).astype(int)
            pieces += [features[start : start + length] for start in starts]
    return pieces


def _random_windows(features: np.ndarray, count: int, generator: np.random.Generator) -> list[np.ndarray]:
    """So many windows of each of two lengths, anywhere."""
    pieces = []
    for length in _STRETCHED:
        if len(features) > length:
            starts = generator.integers(0, len(features) - length, count)
            pieces += [features[start : start + length] for start in starts]
    return pieces


def _other_music(count: int, genres: Sequence[str]) -> list[np.ndarray]:
    """Features of composed songs of styles that are none of the genres."""
    found: list[np.ndarray] = []
    if not any(style not in genres for style in STYLES):
        return found
    bar = progress_bar(total=count, desc="composing", unit="song", disable=not is_main_process())
    with bar:
        seed = 0
        while len(found) < count:
            if composed_style(seed) not in genres:
                features = composed_clip(seed).input_features
                assert features is not None
                found.append(features)
                bar.update(1)
            seed += 1
    return found


def composed_style(seed: int) -> str:
    """The style of `composed_clip(seed)`."""
    return list(STYLES)[np.random.default_rng([seed, 1]).integers(len(STYLES))]


def _noises(settings: HearingSettings) -> list[np.ndarray]:
    """Features of coloured noise: steady, in bursts at random times, or in bursts like syllables."""
    return [song_features(make_noise(index, settings.seed)) for index in range(settings.noises)]


def make_noise(index: int, seed: int, seconds: float = 32.0) -> np.ndarray:
    """The sound of one of the noises, float32 (samples,)."""
    generator, size = np.random.default_rng([index, seed]), round(seconds * SAMPLING_RATE)
    spectrum = np.fft.rfft(generator.standard_normal(size))
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLING_RATE)
    sound = np.fft.irfft(spectrum * (np.maximum(frequencies, 30) / 30) ** -generator.uniform(0, 1.2), size)
    if kind := index % 3:
        rate, time, loudness = generator.uniform(2, 7), 0.0, np.full(size, 0.01)
        while time < seconds:
            first = round(time * SAMPLING_RATE)
            last = min(size, first + round(generator.uniform(0.05, 0.25) * SAMPLING_RATE))
            loudness[first:last] += np.hanning(max(last - first, 0)) * generator.uniform(0.3, 1)
            time += generator.exponential(1 / rate) if kind == 1 else generator.uniform(0.5, 1.5) / rate
            time += generator.uniform(0.3, 1) if generator.random() < 0.06 else 0
        sound = sound * loudness
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


# --- the fit -------------------------------------------------------------------------------------------------------


def fit_hearing(
    heard: Heard, genres: int, settings: HearingSettings | None = None, temperature: float | None = None
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Weights [genres + 1, statistics] and biases [genres + 1] by windows of songs, and a report.

    The report has the number of songs, the temperature, and of windows of songs that were left out ("left_out") the share that is
    recognised, each genre counting the same; None where no song could be left out. With a `temperature` none is.
    """
    settings = settings or HearingSettings()
    if temperature is not None:
        weight, bias = _fit(heard, torch.ones_like(heard.plain), genres, settings)
        return weight / temperature, bias / temperature, {"temperature": temperature}
    plain = (heard.labels < genres) & heard.plain
    songs = [int(song) for song in heard.songs[plain].unique()]
    several = Counter(
        genre for _, genre in {*zip(heard.songs[plain].tolist(), heard.labels[plain].tolist(), strict=True)}
    )
    folds = min(len(songs), _FOLDS)
    scores = torch.full((len(heard.labels), genres + 1), float("nan"), dtype=torch.float64)
    for fold in range(folds if len(songs) > 1 else 0):
        left_out = torch.isin(heard.songs, torch.tensor(songs[fold::folds]))
        weight, bias = _fit(heard, ~left_out, genres, settings)
        scores[left_out] = heard.statistics[left_out] @ weight.T + bias
    # the only song of a genre teaches nothing about songs that are unknown
    known = torch.tensor([several[int(label)] > 1 for label in heard.labels], dtype=torch.bool)
    measured = plain & known & ~scores.isnan().any(1)
    report: dict[str, Any] = {"songs": len(songs), "temperature": 2.0, "left_out": None}
    if measured.any():
        labels, counts = heard.labels[measured], _balanced(heard, measured, genres, 1.0)[measured]

        def surprise(temperature: float) -> float:
            shares = share_none((scores[measured] / temperature).softmax(-1))
            return float(-(shares.gather(1, labels[:, None])[:, 0].log() * counts).sum())

        report["temperature"] = min(map(float, _TEMPERATURES), key=surprise)
        right = share_none(scores[measured].softmax(-1)).argmax(-1) == labels
        report["left_out"] = float((right * counts).sum() / counts.sum())
    weight, bias = _fit(heard, torch.ones_like(heard.plain), genres, settings)
    return weight / report["temperature"], bias / report["temperature"], report


def _balanced(heard: Heard, chosen: Tensor, genres: int, none: float) -> Tensor:
    """Weights of the chosen windows [windows] with the sum 1: genres weigh the same, and their songs, and windows of a song."""
    weights = torch.zeros(len(chosen), dtype=torch.float64)
    pairs = [*zip(heard.labels.tolist(), heard.songs.tolist(), strict=True)]
    windows = Counter(pair for pair, one in zip(pairs, chosen.tolist(), strict=True) if one)
    songs = Counter(label for label, _ in windows)
    for index in chosen.nonzero()[:, 0].tolist():
        label, _ = pairs[index]
        weights[index] = (none if label == genres else 1.0) / songs[label] / windows[pairs[index]]
    return weights / weights.sum().clamp(min=1e-12)


def _fit(heard: Heard, chosen: Tensor, genres: int, settings: HearingSettings) -> tuple[Tensor, Tensor]:
    """A softmax with shrunk weights of the chosen windows' statistics, which are scaled to the same spread."""
    counts = _balanced(heard, chosen, genres, settings.none)[chosen]
    statistics, labels = heard.statistics[chosen], heard.labels[chosen]
    mean, std = statistics.mean(0), statistics.std(0, correction=0).clamp(min=1e-3)
    scaled = (statistics - mean) / std
    weight = torch.zeros(genres + 1, scaled.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(genres + 1, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-7)

    def loss() -> Tensor:
        solver.zero_grad()
        shares = (scaled @ weight.T + bias).log_softmax(-1)
        total = -(shares.gather(1, labels[:, None])[:, 0] * counts).sum()
        # the biases too, or a genre without songs would go to minus infinity
        total = total + settings.shrinkage * weight.square().sum() + 1e-6 * bias.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        solver.step(loss)  # type: ignore[arg-type]
    scaled_weight = weight.detach() / std
    return scaled_weight, bias.detach() - scaled_weight @ mean


def train_hearing(
    model: MegaDanceForMotionGeneration, clips: Sequence[Clip], settings: HearingSettings | None = None
) -> dict[str, Any]:
    """Fit the hearing of a model whose rhythm encoder is trained, on training clips. Returns the report of `fit_hearing`.

    Raises:
        ModelError: the model has no hearing, or none of the clips a song of its genres.
    """
    if model.hearing is None:
        raise ModelError("this model has no hearing to fit: set hears_genres=True")
    was_training = model.training
    heard = hear_songs(model.eval(), clips, settings)
    genres = len(model.config.genres)
    if not (heard.labels < genres).any():
        raise ModelError(
            f"hears_genres=True: none of {len(clips)} clips has {LEAST_FRAMES / FPS:g} s of music of a genre; set hears_genres=False"
        )
    weight, bias, report = fit_hearing(heard, genres, settings)
    model.hearing.weight.copy_(weight)
    model.hearing.bias.copy_(bias)
    model.train(was_training)
    shown = (
        "none could be left out"
        if report["left_out"] is None
        else f"left out, {report['left_out']:.0%} of windows are recognised"
    )
    print_once(f"hearing: {report['songs']} songs; {shown}; temperature {report['temperature']:.2f}")
    return report


def add_hearing(folder: str | Path, clips: Sequence[Clip], settings: HearingSettings | None = None) -> dict[str, Any]:
    """Let an existing model hear: fit on the clips, and write to its folder. Nothing else of it changes.

    Args:
        folder: of a generator with a rhythm encoder, its weights in one file.
        clips: of training, as `read_prepared(data, "train")` reads them.
        settings: of the fit.

    Raises:
        ModelError: the model cannot learn to hear.
    """
    from safetensors.torch import load_file, save_file

    folder = Path(folder)
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"model={str(folder)!r} has no {WEIGHTS}: save it in one file, without shard_by_genre")
    model = MegaDanceForMotionGeneration.from_pretrained(folder).eval()
    if not model.config.rhythm_size:
        raise ModelError(f"model={str(folder)!r} has no rhythm encoder, with which it would hear: train one that has")
    model.config.hears_genres, model.hearing = True, GenreHearing(model.config)
    report = train_hearing(model, clips, settings)
    assert model.hearing is not None
    weights = load_file(folder / WEIGHTS)
    dtype = next((tensor.dtype for tensor in weights.values() if tensor.is_floating_point()), torch.float32)
    weights |= {f"hearing.{name}": tensor.to(dtype).contiguous() for name, tensor in model.hearing.state_dict().items()}
    with whole(folder / WEIGHTS) as part:
        save_file(weights, part, metadata={"format": "pt"})
    content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    with whole(folder / CONFIG) as part:
        part.write_text(json.dumps({**content, "hears_genres": True}, indent=2) + "\n", encoding="utf-8")
    return report
