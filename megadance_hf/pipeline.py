"""From a song to a dance in one call.

    pipe = MusicToDancePipeline.from_pretrained()                # the bundled ballroom model
    dance = pipe("song.mp3", genre="waltz", seed=0)              # a Motion
    dance.save("dance.mp4", music="song.mp3")

The same as a task of transformers, once this module is imported: `pipeline("music-to-dance", model=...)`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tqdm import tqdm
from transformers.configuration_utils import PreTrainedConfig
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import Pipeline

from . import auto  # noqa: F401  (registers the model type, which transformers.pipeline asks for)
from .modeling.configuration_megadance import MegaDanceConfig, MegaDanceTokenizerConfig, match_genre
from .modeling.feature_extraction_megadance import AudioError, MegaDanceFeatureExtractor, load_audio
from .modeling.generation_megadance import MODES
from .modeling.kinematics_megadance import poses_to_motion
from .modeling.modeling_megadance import MegaDanceForMotionGeneration
from .modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from .modeling.processing_megadance import MegaDanceProcessor
from .modeling.streaming_megadance import GUESS_CODES, DanceChunk, DanceStream
from .motion import Motion, MotionError

TASK = "music-to-dance"
PRETRAINED = Path(__file__).parent / "pretrained"  # the models that come with the package, a folder each
DEFAULT_MODEL = str(PRETRAINED / "ballroom")
TOKENIZER_FOLDER = "tokenizer"

# Keywords of from_pretrained that say where files come from; the others are about the generator.
_HUB_KEYWORDS = ("revision", "token", "cache_dir", "local_files_only", "force_download")


class ModelError(ValueError):
    """A model cannot be found or loaded; the message is one line naming it and the remedy."""


# --- models --------------------------------------------------------------------------------------------------------


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))


def find_model(model: str | os.PathLike) -> str:
    """What `from_pretrained` of the parts is called with: a folder (that of a bundled model, if it is named so) or a Hub id.

    Raises:
        ModelError: it reads like a folder and there is none.
    """
    name = os.fspath(model)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return str(folder)
    if name in bundled_models():
        return str(PRETRAINED / name)
    if folder.is_file() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or " " in name:
        found = "is a file" if folder.is_file() else "is no folder here"
        raise ModelError(
            f"model={name!r} {found}, nor one of the bundled models ({', '.join(bundled_models()) or 'none'}): give the "
            "folder that holds config.json and model.safetensors, or a Hub id such as 'owner/name'"
        )
    return name


def load_config(model: str | os.PathLike = DEFAULT_MODEL, **hub: Any) -> MegaDanceConfig:
    """Configuration of a generator without its weights; for its genres and sizes.

    Raises:
        ModelError: there is none, or it is of another kind of model.
    """
    source = find_model(model)
    with _one_line(model):
        content, _ = PreTrainedConfig.get_config_dict(source, **hub)
        if not content:
            raise ModelError(f"model={os.fspath(model)!r} has no config.json: give a folder that a model was saved in")
        kind = content.get("model_type")
        if kind != MegaDanceConfig.model_type:
            raise ModelError(
                f"model={os.fspath(model)!r} is of type {kind!r}: give a {MegaDanceConfig.model_type!r} generator"
            )
        return MegaDanceConfig.from_pretrained(source, **hub)


@contextmanager
def _one_line(model: str | os.PathLike) -> Iterator[None]:
    """Whatever goes wrong while files are fetched and read becomes a ModelError of one line."""
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        if len(reason) > 300:
            reason = reason[:300] + " ..."
        raise ModelError(
            f"model={os.fspath(model)!r} cannot be loaded ({reason}): give a folder with config.json, model.safetensors, "
            f"preprocessor_config.json and {TOKENIZER_FOLDER}/, or the Hub id of such a model"
        ) from error


def _load_weights(cls: type, source: str, **kwargs: Any) -> Any:
    """`cls.from_pretrained`, but weights that the files lack are an error: transformers would only warn and invent them."""
    model, info = cls.from_pretrained(source, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    for kind, keys in (
        ("lacks", info["missing_keys"]),
        ("has other sizes than its config.json for", info["mismatched_keys"]),
    ):
        if keys:
            names = sorted(key if isinstance(key, str) else key[0] for key in keys)
            raise ModelError(
                f"model={source!r} {kind} {len(names)} weights of {cls.__name__} ({names[0]}, ...): save it again"
            )
    return model.eval()


def describe_model(model: str | os.PathLike = DEFAULT_MODEL, **hub: Any) -> dict[str, str]:
    """What a model is, as names and short texts for people. Only its configurations are read."""
    config, source = load_config(model, **hub), find_model(model)
    with _one_line(model):
        codec = MegaDanceTokenizerConfig.from_pretrained(source, subfolder=TOKENIZER_FOLDER, **hub)
    with torch.device("meta"):  # shapes without memory
        generator, tokenizer = MegaDanceForMotionGeneration(config), MegaDanceTokenizer(codec)
    experts = [
        name
        for name, used in (("universal", config.use_universal_experts), ("genre", config.use_genre_experts))
        if used
    ]
    return {
        "model": source,
        "genres": ", ".join(config.built_genres),
        "generator": f"{generator.num_parameters():,} parameters, {generator.num_active_parameters():,} of them for one genre",
        "layers": f"{config.num_hidden_layers} of width {config.hidden_size}, {' and '.join(experts)} experts, "
        f"{config.expert_composition}, {'with' if config.use_mamba else 'without'} Mamba",
        "music": f"{config.music_feature_size} features at {config.fps} frames/s, reduced by {config.music_reduction!r}, "
        f"lookahead {config.music_lookahead}",
        "codes": f"{codec.codebook_size} for the upper and as many for the lower body, {config.frames_per_code} frames each, "
        f"context of {config.context_codes}",
        "tokenizer": f"{tokenizer.num_parameters():,} parameters, {codec.quantizer.upper()}, "
        f"{codec.codec} convolutions, {codec.upsampling} upsampling",
    }


# --- songs ---------------------------------------------------------------------------------------------------------


def _read_song(song: Any, rate: int, start: float, duration: float | None) -> tuple[np.ndarray, int, str | None]:
    """Any kind of song -> waveform of the wanted stretch, its sampling rate in Hz, its name."""
    if isinstance(song, dict):  # a row of a `datasets` Audio column, or what transformers' audio pipelines take
        if "sampling_rate" not in song or not {"array", "raw"} & song.keys():
            raise AudioError(f"song has the keys {sorted(song)}: give 'array' (or 'raw') and 'sampling_rate'")
        song = (song.get("array", song.get("raw")), song["sampling_rate"])
    if not isinstance(song, tuple):
        waveform, rate = load_audio(song, sampling_rate=rate, start=start, duration=duration)
        name = getattr(song, "name", song)
        return waveform, rate, Path(name).name if isinstance(name, (str, os.PathLike)) else None
    waveform, rate = np.asarray(song[0]), int(song[1])
    if waveform.ndim == 2 and waveform.shape[0] < waveform.shape[1]:
        waveform = waveform.T  # (channels, samples)
    for argument, value in (("start", start), ("duration", duration)):
        if value is not None and not value >= 0:
            raise AudioError(f"{argument}={value!r}: give 0 or more seconds")
    first = round(start * rate)
    if first >= len(waveform):
        raise AudioError(f"start={start:g}: the song ends at {len(waveform) / rate:.2f} s; give an earlier start")
    return waveform[first : None if duration is None else first + round(duration * rate)], rate, None


@dataclass
class _Codes:
    upper_codes: torch.Tensor
    lower_codes: torch.Tensor


@contextmanager
def _progress_bar(codes: int, seconds_a_code: float) -> Iterator[Callable[[int, int], None]]:
    """A function for `generate(progress=...)` that shows seconds of dance; the bar is closed whatever happens."""
    layout = "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}]"
    with tqdm(desc="dancing", total=codes * seconds_a_code, bar_format=layout) as bar:
        yield lambda done, total: bar.update(done * seconds_a_code - bar.n)


# --- the pipeline --------------------------------------------------------------------------------------------------


class MusicToDancePipeline(Pipeline):
    """Songs in, `Motion`s out.

    `from_pretrained` is the usual way to make one. The parts can be handed in as well: a `MegaDanceForMotionGeneration`,
    a `MegaDanceTokenizer`, a `MegaDanceProcessor`; what is missing is loaded from where the model came from.

    Attributes:
        model, tokenizer, processor: the parts.
        genres: names that `genre` can be.
    """

    # transformers must not look for text tokenizers and image processors
    _load_tokenizer = _load_feature_extractor = _load_processor = False
    _load_image_processor = _load_video_processor = False

    def __init__(
        self,
        model: MegaDanceForMotionGeneration,
        tokenizer: MegaDanceTokenizer | None = None,
        processor: MegaDanceProcessor | None = None,
        **kwargs: Any,
    ) -> None:
        source = model.name_or_path
        revision = {"revision": model.config._commit_hash} if getattr(model.config, "_commit_hash", None) else {}
        with _one_line(source):
            if tokenizer is None:
                tokenizer = _load_weights(MegaDanceTokenizer, source, subfolder=TOKENIZER_FOLDER, **revision)
            if processor is None:
                extractor = MegaDanceFeatureExtractor.from_pretrained(source, **revision)
                processor = MegaDanceProcessor(extractor, model.config.genres, model.config.frames_per_code)
        if tokenizer.config.codebook_size != model.config.codebook_size:
            raise ModelError(
                f"model={source!r}: the tokenizer has {tokenizer.config.codebook_size} codes and the generator "
                f"{model.config.codebook_size}; they must come from one training"
            )
        super().__init__(model=model, processor=processor, **kwargs)
        # After the base class, which takes a tokenizer for one of text. Always float32: rounding makes joints tremble.
        self.tokenizer = tokenizer.to(self.device)

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike = DEFAULT_MODEL, *, device: Any = None, **kwargs: Any
    ) -> "MusicToDancePipeline":
        """Load a model with everything it needs.

        Args:
            model: folder or Hub id with the generator, its tokenizer in the subfolder `tokenizer` and
                `preprocessor_config.json`; or the name of a bundled model.
            device: "cpu", "cuda:1", ...; the first accelerator when None, else the CPU.
            kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download` go to every part; everything
                else to the generator, such as `dtype=torch.bfloat16` or `active_genres=["waltz"]`.

        Raises:
            ModelError: not found, another kind of model, broken or missing files.
        """
        hub = {key: kwargs.pop(key) for key in _HUB_KEYWORDS if key in kwargs}
        load_config(model, **hub)
        source = find_model(model)
        if Path(source).is_dir() and not Path(source, TOKENIZER_FOLDER, "config.json").is_file():
            raise ModelError(
                f"model={os.fspath(model)!r} has no {TOKENIZER_FOLDER}/config.json: save the motion tokenizer into its "
                f"subfolder {TOKENIZER_FOLDER!r}, as MusicToDancePipeline.save_pretrained does"
            )
        with _one_line(model):
            generator = _load_weights(MegaDanceForMotionGeneration, source, **hub, **kwargs)
            tokenizer = _load_weights(MegaDanceTokenizer, source, subfolder=TOKENIZER_FOLDER, **hub)
            extractor = MegaDanceFeatureExtractor.from_pretrained(source, **hub)
        processor = MegaDanceProcessor(extractor, generator.config.genres, generator.config.frames_per_code)
        return cls(generator, tokenizer, processor, device=device)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Write a folder that `from_pretrained` reads: generator, `tokenizer/`, processor."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(Path(save_directory) / TOKENIZER_FOLDER, **kwargs)
        self.processor.feature_extractor.save_pretrained(save_directory)
        self.processor.save_pretrained(save_directory)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model.name_or_path!r}, genres={self.genres}, device={self.device})"

    @property
    def genres(self) -> list[str]:
        """Names of the genres that the model was loaded with."""
        return self.model.config.built_genres

    def __call__(
        self,
        song: Any,
        genre: str | None = None,
        *,
        seed: int | None = None,
        duration: float | None = None,
        start: float = 0.0,
        mode: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        num: int = 1,
        start_motion: Motion | None = None,
        floor: bool = True,
        progress: bool = False,
        **generate_kwargs: Any,
    ) -> Motion | list[Motion]:
        """Make a dance to a song; it is as long as the song, to the frame.

        Args:
            song: path, bytes or open file of a sound file; (waveform, sampling rate); or a dict with "array" and
                "sampling_rate". A list of songs gives a list of dances.
            genre: one of `genres`, capitals and hyphens do not matter; the first of them when None.
            seed: the same seed gives the same dance; a random one when None (kept in `metadata["seed"]`).
            duration: seconds of the song to dance to; to its end when None.
            start: second of the song to begin at.
            mode: "released", "paper" or "stream", how the music and the past are windowed (see `generate`); the model's
                own default when None.
            temperature: above 0; below 1 more likely steps, above 1 more surprising ones.
            top_k: choose among the so many likeliest codes.
            num: how many dances to this song; more than one gives a list.
            start_motion: a dance to begin with: its first whole codes (8 frames each) are played at the beginning of the
                song, then the model goes on. It must be shorter than the song.
            floor: see `MegaDanceProcessor.post_process_motion`.
            progress: show a progress bar.
            generate_kwargs: go to `model.generate()`.

        Returns:
            a `Motion` at 30 frames a second; its `metadata` has seed, index, genre, mode, model, song, start, and
            `compute_seconds`, the time it took (shared by all `num` dances).

        Raises:
            AudioError, GenreError, MotionError, ValueError: see the message.
        """
        options = {"start": start, "num": num, "floor": floor, "progress": progress, **generate_kwargs}
        optional = {"genre": genre, "seed": seed, "duration": duration, "mode": mode, "temperature": temperature}
        optional |= {"top_k": top_k, "start_motion": start_motion}
        return super().__call__(
            song, **options, **{name: value for name, value in optional.items() if value is not None}
        )

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        """Sort the options of `__call__` (or of the constructor) by the step that takes them, checking what is cheap to
        check, so that nothing is computed for an option that cannot be used."""
        if (mode := options.get("mode")) is not None and mode not in MODES:
            raise ValueError(f"mode={mode!r} is unknown: give one of {', '.join(MODES)}")
        for name, lowest in (("num", 1), ("top_k", 1), ("seed", 0)):
            value = options.get(name)
            if value is not None and (isinstance(value, bool) or int(value) != value or value < lowest):
                raise ValueError(f"{name}={value!r}: give a whole number of {lowest} or more")
        if (temperature := options.get("temperature")) is not None and not 0 < temperature < float("inf"):
            raise ValueError(f"temperature={temperature!r}: give a number above 0")
        if (genre := options.get("genre")) is not None:
            options["genre"] = match_genre(genre, self.genres)
        first = {key: options.pop(key) for key in ("genre", "start", "duration", "start_motion") if key in options}
        last = {key: options.pop(key) for key in ("floor",) if key in options}
        return first, options, last

    def preprocess(
        self,
        song: Any,
        genre: str | None = None,
        start: float = 0.0,
        duration: float | None = None,
        start_motion: Motion | None = None,
    ) -> dict[str, Any]:
        began = time.perf_counter()
        genre = genre or self.genres[0]
        waveform, rate, name = _read_song(song, self.processor.feature_extractor.sampling_rate, start, duration)
        inputs = dict(self.processor(waveform, genre, sampling_rate=rate))
        frames = inputs.pop("num_frames")[0]
        placed = None
        if start_motion is not None:
            inputs |= self._encode(start_motion, frames)
            placed = start_motion.translation[0].tolist()
        model = str(self.model.name_or_path)
        notes = {
            "genre": genre,
            "model": Path(model).name if Path(model).is_dir() else model,
            "song": name,
            "start": start,
        }
        return {"inputs": inputs, "frames": frames, "placed": placed, "notes": notes, "began": began}

    @torch.no_grad()
    def _encode(self, motion: Motion, frames: int) -> dict[str, torch.Tensor]:
        """A dance to begin with, as codes [1, steps]."""
        fps, step = self.tokenizer.config.fps, self.tokenizer.config.frames_per_code
        motion = motion if motion.fps == fps else motion.resampled(fps)
        steps = len(motion) // step
        if not 0 < steps * step < frames:
            raise MotionError(
                f"start_motion has {len(motion)} frames: give at least {step} and fewer than the song's {frames} (at {fps} "
                "frames a second)"
            )
        poses, translation = torch.from_numpy(motion.poses), torch.from_numpy(motion.translation)
        vectors = poses_to_motion(poses, translation)[None, : steps * step]
        codes = self.tokenizer.encode(vectors.to(self.tokenizer.device))
        return {"upper_codes": codes.upper_codes, "lower_codes": codes.lower_codes}

    def stream(
        self,
        blocks: Iterable[np.ndarray],
        sampling_rate: int,
        genre: str | None = None,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        wait_codes: int = 0,
        guess_codes: int = GUESS_CODES,
        floor: bool = True,
        **generate_kwargs: Any,
    ) -> Iterator[Motion]:
        """Dance to music while it is still coming in.

            for chunk in pipe.stream(blocks, sampling_rate=44100, genre="waltz", seed=0):
                show(chunk.poses, chunk.translation)

        The chunks are the dance, one after the other: each begins where the last one ended and is final, and together they
        are as long as the music, to the frame. Mostly they are 8 frames long, one for each 0.267 s of music.

        The delay, from the music of an instant to the pose that answers it: at most 0.267 s, which a chunk's music takes to
        come in, and the time that computing a chunk takes (`benchmarks/streaming.py`), and `wait_codes` times 0.267 s more.

        Args:
            blocks: pieces of sound as they come, of any length, as `MegaDanceFeatureExtractor` takes them: (samples,), or
                (samples, channels). Fetched one at a time, when there is nothing left to do with those before.
            sampling_rate: of the blocks, in Hz.
            genre, seed, temperature, top_k, floor: as in `__call__`. The same music and seed give the same dance, however the
                music is cut into blocks; another one than `__call__` gives, which knows the whole song.
            wait_codes: wait for so many more codes before frames are final. 0 is the shortest delay; with 1 or 2 the motion is
                nearer to what the model makes of a whole song (see `streaming_megadance.py`).
            guess_codes: how many codes are foreseen, so that frames can be decoded before those codes are there; each costs a
                step of the generator. 4 is enough; 2 for a large model that would not keep up; 0 is visibly rough.
            generate_kwargs: other fields of the generation configuration.

        Yields:
            `Motion`s, whose `metadata` has seed, genre, model, `first_frame` (its number in the dance), `heard` (seconds of
            music that had come in), and `compute_seconds`, from the block that completed the chunk's music to the chunk.

        Raises:
            AudioError, GenreError, ValueError: see the message; about arguments at once, about a block when it comes.
        """
        given = {"genre": genre, "seed": seed, "temperature": temperature, "top_k": top_k, **generate_kwargs}
        first, options, _ = self._sanitize_parameters(**{k: value for k, value in given.items() if value is not None})
        genre = first.get("genre") or self.genres[0]
        seed = options.pop("seed", int.from_bytes(os.urandom(4), "little"))
        if self.model.generation_config.do_sample is None:
            options.setdefault("do_sample", True)
        stream = DanceStream(
            self.model,
            self.tokenizer,
            self.processor.feature_extractor,
            self.model.genre_id(genre),
            sampling_rate,
            seed,
            wait_codes,
            guess_codes,
            floor,
            **options,
        )
        model = str(self.model.name_or_path)
        notes = {"genre": genre, "seed": seed, "model": Path(model).name if Path(model).is_dir() else model}
        return self._chunks(stream, blocks, notes)

    def _chunks(self, stream: DanceStream, blocks: Iterable[np.ndarray], notes: dict[str, Any]) -> Iterator[Motion]:
        stream.warm_up()
        for block in blocks:
            for chunk in stream.push(block):
                yield self._motion(chunk, notes)
        for chunk in stream.finish():
            yield self._motion(chunk, notes)

    def _motion(self, chunk: DanceChunk, notes: dict[str, Any]) -> Motion:
        notes = notes | {name: getattr(chunk, name) for name in ("first_frame", "heard", "compute_seconds")}
        return Motion(chunk.poses, chunk.translation, self.tokenizer.config.fps, notes["genre"], notes)

    def _forward(
        self,
        prepared: dict[str, Any],
        seed: int | None = None,
        num: int = 1,
        progress: bool = False,
        **generate_kwargs: Any,
    ) -> dict[str, Any]:
        # Drawn from the system, so that torch.manual_seed in the user's code and this do not disturb each other.
        seed = int.from_bytes(os.urandom(4), "little") if seed is None else int(seed)
        config, defaults = self.model.config, self.model.generation_config
        if defaults.do_sample is None:
            # The likeliest codes alone soon repeat themselves: the dancer freezes. A model's own setting stands.
            generate_kwargs.setdefault("do_sample", True)
        codes = prepared["inputs"]["input_features"].shape[1] // config.frames_per_code
        with _progress_bar(codes, config.frames_per_code / config.fps) if progress else nullcontext() as show:
            outputs = self.model.generate(
                **prepared["inputs"], seed=seed, num_return_sequences=num, progress=show or False, **generate_kwargs
            )
        mode = generate_kwargs.get("mode") or getattr(defaults, "mode", None) or "paper"
        notes = {**prepared["notes"], "seed": seed, "mode": mode}
        return {**prepared, "notes": notes, "codes": (outputs.upper_codes, outputs.lower_codes)}

    def postprocess(self, results: dict[str, Any], floor: bool = True) -> Motion | list[Motion]:
        codes = _Codes(*(codes.to(self.device) for codes in results["codes"]))
        dances = self.processor.post_process_motion(codes, self.tokenizer, results["frames"], floor, results["placed"])
        notes = {**results["notes"], "compute_seconds": round(time.perf_counter() - results["began"], 3)}
        fps = self.tokenizer.config.fps
        motions = [
            Motion(**dance, fps=fps, genre=notes["genre"], metadata={**notes, "index": index})
            for index, dance in enumerate(dances)
        ]
        return motions if len(motions) > 1 else motions[0]


# What `pipeline("music-to-dance", ...)` of transformers looks up. Here, and not in the package's __init__, because
# asking transformers for its pipelines takes seconds.
if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=MusicToDancePipeline,
        pt_model=MegaDanceForMotionGeneration,
        default={"model": (DEFAULT_MODEL, None)},
        type="audio",
    )
