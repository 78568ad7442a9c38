"""The pipeline "music-to-dance" as it travels with a model: songs in, arrays out.

    pipe = pipeline("music-to-dance", model="OWNER/NAME", trust_remote_code=True)
    dance = pipe("song.mp3", genre="waltz", seed=0)    # {"poses": (T, 24, 3), "translation": (T, 3), "fps": 30, ...}

Where megadance-hf is installed, its `MusicToDancePipeline` gives the same dance as a `Motion`, which saves itself as a video.
"""

import collections
import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from transformers.generation.configuration_utils import GenerationConfig
from transformers.pipelines.base import Pipeline

from .arguments_megadance import (
    GENERATION_OPTIONS,
    MOST_DANCES,
    OWN_FIELDS,
    check_generation,
    check_helpers,
    seed_number,
    unknown_option,
    whole_number,
)
from .audio_megadance import AudioError, as_songs, opened
from .checkpoints_megadance import TOKENIZER_FOLDER, source_of
from .configuration_megadance import match_genre
from .errors_megadance import ModelError, one_line, reason_of
from .feature_extraction_megadance import MegaDanceFeatureExtractor
from .folders_megadance import check_parts
from .generation_megadance import MODES
from .kinematics_megadance import poses_to_motion
from .modeling_megadance import MegaDanceForMotionGeneration
from .modeling_megadance_tokenizer import MegaDanceTokenizer
from .processing_megadance import MegaDanceProcessor
from .progress_megadance import progress_bar
from .remote_code_megadance import PushesCode


def load_weights(cls: type, source: str, **kwargs: Any) -> Any:
    """`cls.from_pretrained`, but weights that the files lack are an error: transformers would only warn and invent them."""
    # a folder is looked at before it is loaded; of a repository the sizes are told afterwards, all of them
    kwargs = kwargs if os.path.isdir(source) else {**kwargs, "ignore_mismatched_sizes": True}
    model, info = cls.from_pretrained(source, output_loading_info=True, **kwargs)
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


def _listen(
    song: Any,
    extractor: MegaDanceFeatureExtractor,
    start: float,
    duration: float | None,
    sampling_rate: int | None,
) -> tuple[dict[str, Any], str | None]:
    """Any kind of song -> {"input_features": raw features of the wanted stretch}, its name."""
    if isinstance(song, Mapping) and "input_features" in song:
        if start or duration is not None:
            raise ValueError(
                f"start={start}, duration={duration}: input_features are danced to as they are; cut them first"
            )
        return dict(song), song.get("name")
    with opened(song, sampling_rate, argument="song") as sound:
        if sampling_rate is not None and sound.rate is None:
            raise AudioError(f"sampling_rate={sampling_rate!r}: {sound.name} brings its own; leave it out")
        return {"input_features": extractor.listen(sound, start, duration)}, sound.title


def find_device(device: Any, name: str = "device") -> torch.device | None:
    """The device that is meant, after a look whether it can be used; None as it is.

    Whole numbers are transformers' own way: -1 is the CPU, 0 the first accelerator, or, with a warning, the CPU where there is none.

    Raises:
        ValueError: there is no such device here.
    """
    if device is None:
        return None
    if isinstance(device, int) and not isinstance(device, bool):
        if device < 0:
            return torch.device("cpu")
        kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if kind is None:
            warnings.warn(f"{name}={device}: there is no accelerator here, so the CPU is used", stacklevel=3)
            return torch.device("cpu")
        found = torch.device(kind.type, device)
    else:
        try:
            found = torch.device(device)
        except (RuntimeError, TypeError):
            raise ValueError(f"{name}={device!r} is unknown: give 'cpu', 'cuda', 'cuda:1', 'mps', ...") from None
    try:
        if found.type == "meta":
            raise RuntimeError("nothing is computed there")
        torch.ones(1, device=found).cpu()
    except Exception as error:  # each kind of device has its own
        reason = reason_of(error, 200).rstrip(".")
        raise ValueError(f"{name}={device!r} cannot be used here ({reason}): give {name}='cpu'") from None
    return found


class _Songs:
    """An iterator over dances that are made as they are asked for; as long as the songs, where these say how many they are."""

    def __init__(self, dances: Iterator[Any], songs: Any) -> None:
        self._dances, self._songs = dances, songs

    def __iter__(self) -> "_Songs":
        return self

    def __next__(self) -> Any:
        return next(self._dances)

    def __len__(self) -> int:
        return len(self._songs)


@dataclass
class _Request:
    """One song, perhaps with a genre of its own."""

    song: Any
    genre: str | None


@dataclass
class _Codes:
    upper_codes: torch.Tensor
    lower_codes: torch.Tensor


@contextmanager
def _progress_bar(codes: int, seconds_a_code: float) -> Iterator[Callable[[int, int], None]]:
    """A function for `generate(progress=...)` that shows seconds of dance; the bar is closed whatever happens."""
    layout = "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}]"
    with progress_bar(desc="dancing", total=codes * seconds_a_code, unit="s", bar_format=layout) as bar:
        yield lambda done, total: bar.update(done * seconds_a_code - bar.n)


class DancePipeline(PushesCode, Pipeline):
    """Songs in, dances out, as arrays.

    The parts can be handed in: a `MegaDanceForMotionGeneration`, a `MegaDanceTokenizer`, a `MegaDanceProcessor`; what is
    missing is loaded from where the model came from.

    Attributes:
        model, tokenizer, processor: the parts.
        genres: names that `genre` can be.
    """

    _processor_class = MegaDanceProcessor
    # transformers must not look for text tokenizers and image processors
    _load_tokenizer = _load_feature_extractor = _load_processor = False
    _load_image_processor = _load_video_processor = False

    def __init__(
        self,
        model: MegaDanceForMotionGeneration,
        tokenizer: MegaDanceTokenizer | None = None,
        processor: MegaDanceProcessor | None = None,
        feature_extractor: MegaDanceFeatureExtractor | None = None,
        device: Any = None,
        binary_output: bool = False,
        **kwargs: Any,
    ) -> None:
        if binary_output:
            raise ValueError("binary_output=True: a dance is no text that could be serialised; leave it out")
        # by its name: with remote code the class may have been loaded twice
        if not any(kind.__name__ == MegaDanceForMotionGeneration.__name__ for kind in type(model).__mro__):
            what = repr(model) if isinstance(model, str | os.PathLike) else f"of type {type(model).__name__}"
            raise ModelError(
                f"model {what} is no MegaDanceForMotionGeneration: give one, or use from_pretrained, or "
                "transformers.pipeline('music-to-dance', model=...), for a folder or a Hub id"
            )
        device = find_device(device)
        source, hub = source_of(model)
        # transformers.pipeline() hands names on as they are
        if isinstance(tokenizer, str | os.PathLike):
            with one_line(tokenizer):
                tokenizer = load_weights(MegaDanceTokenizer, os.fspath(tokenizer))
        if isinstance(processor, str | os.PathLike):
            processor = self._processor_class.from_pretrained(processor)
        if isinstance(feature_extractor, str | os.PathLike):
            feature_extractor = MegaDanceFeatureExtractor.from_pretrained(feature_extractor)
        with one_line(source):
            if tokenizer is None:
                tokenizer = load_weights(MegaDanceTokenizer, source, subfolder=TOKENIZER_FOLDER, **hub)
            if processor is None:
                extractor = feature_extractor or MegaDanceFeatureExtractor.from_pretrained(source, **hub)
                processor = self._processor_class(extractor, model.config.genres, model.config.frames_per_code)
        check_parts(source, model.config, tokenizer.config, processor.feature_extractor)
        super().__init__(model=model, processor=processor, device=device, **kwargs)
        # After the base class, which takes a tokenizer for one of text. Always float32: rounding makes joints tremble.
        self.tokenizer = processor.motion_tokenizer = tokenizer.to(self.device)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Write a folder that holds all parts: generator, `tokenizer/`, processor."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(Path(save_directory) / TOKENIZER_FOLDER, **kwargs)
        self.processor.save_pretrained(save_directory)

    def to(self, *args: Any, **kwargs: Any) -> "DancePipeline":
        """Move the pipeline to a device, or the generator to another type of numbers, as `torch.nn.Module.to` is called; the
        motion tokenizer stays float32. Returns the pipeline itself.

        Raises:
            ValueError: there is no such device here.
        """
        named = {**dict(zip(("device", "dtype"), args, strict=False)), **kwargs}
        if isinstance(named.get("device"), torch.dtype):  # to(torch.bfloat16)
            named["dtype"] = named.pop("device")
        for name in named.keys() - {"device", "dtype"}:
            unknown_option(name, ("device", "dtype"), "to()")
        dtype = named.get("dtype")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"dtype={dtype!r}: give torch.float32, torch.bfloat16 or torch.float16")
        device = find_device(named.get("device"))
        self.model.to(device=device, dtype=dtype)
        self.device = self.model.device
        self.tokenizer.to(self.device)
        return self

    def prepare_for_hub(self, folder: str | os.PathLike) -> None:
        self.model.prepare_for_hub(folder)

    @property
    def genres(self) -> list[str]:
        """Names of the genres that the model was loaded with."""
        return self.model.config.built_genres

    def __call__(
        self,
        song: Any = None,
        genre: str | Sequence[str] | None = None,
        *,
        seed: int | None = None,
        duration: float | None = None,
        start: float | None = None,
        mode: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        num: int | None = None,
        start_motion: Any = None,
        floor: bool | None = None,
        progress: bool | Callable[[int, int], None] | None = None,
        sampling_rate: int | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **generate_kwargs: Any,
    ) -> Any:
        """Make a dance to a song; it is as long as the song, to the frame.

        Args:
            song: any file that plays (path, http(s) address, bytes, open file or pipe); (waveform, sampling rate); a row of an
                Audio column, and whatever else `open_sound` takes; or {"input_features": (frames, 35)}, raw features made
                before. A list of songs gives a list of dances; a generator or a data set of songs gives an iterator over
                dances. `inputs` is another name for it.
            genre: one of `genres`, capitals and hyphens do not matter; the first of them when None. For a list of songs one
                for all, or a list with one for each.
            seed: the same seed gives the same dance; a random one when None (kept in `metadata["seed"]`). Any whole number of 0
                or more; of one above 2**64 only what it leaves when divided by that counts.
            duration: seconds of the song to dance to; to its end when None.
            start: second of the song to begin at, 0 when None. What surrounds the excerpt (90 s) is heard, too: it has the
                song's tempo.
            mode: "released", "paper" or "stream", how the music and the past are windowed (see `generate`); the model's
                own default when None.
            temperature: above 0; below 1 more likely steps, above 1 more surprising ones.
            top_k: choose among the so many likeliest codes; 0 among all.
            num: how many dances to this song; more than one gives a list. `num_return_sequences` is the same.
            start_motion: a dance to begin with, {"poses", "translation"} at the model's frame rate: its first whole codes (8
                frames each) are played at the beginning of the song, then the model goes on. It must be shorter than the
                song.
            floor: see `MegaDanceProcessor.post_process_motion`; True when None.
            progress: show a progress bar; or a function called with (codes done, codes in all), which may raise to stop.
            sampling_rate: of a song that is an array, in Hz.
            batch_size: dance to so many songs at once, which takes less time where there are many cores, or a GPU. The dances
                are those that the songs get alone, but for rounding.
            num_workers: in so many threads the next songs are read meanwhile; 0 reads them one after the other.
            generate_kwargs: go to `model.generate()`: `generator` instead of a seed, `top_p`, `do_sample`,
                `generation_config`, `logits_processor`, `streamer`, ... What would do nothing is refused.

        Returns:
            {"poses": (T, 24, 3) axis-angle of the SMPL joints, "translation": (T, 3) of the pelvis, metres, Y up, "fps": 30,
            "genre", "metadata"}; `metadata` has seed (None with a `generator`), index, genre, mode, model, song, start, and
            `compute_seconds`, the time it took (shared by all dances that are made at once).

        Raises:
            AudioError, GenreError, ValueError: see the message.
        """
        if "inputs" in generate_kwargs:
            if song is not None:
                raise ValueError("song and inputs are both given: they are the same, give song alone")
            song = generate_kwargs.pop("inputs")
        if song is None:
            raise ValueError("song is missing: give a path, (waveform, sampling rate), or a list of songs")
        several = _several(song)
        if isinstance(song, list | tuple):
            song = list(song) if several else _Request(song, None)  # transformers takes any list for several songs
        if hasattr(song, "column_names"):
            raise ValueError(
                f"song is a data set with the columns {', '.join(map(str, song.column_names))}: give one of them, such as "
                "pipe(dataset['audio'])"
            )
        if isinstance(genre, list | tuple | np.ndarray):
            song, genre = self._with_genres(song, genre, several), None
            several = True
        optional = {
            "start": start,
            "genre": genre,
            "seed": seed,
            "duration": duration,
            "mode": mode,
            "temperature": temperature,
        }
        optional |= {"top_k": top_k, "start_motion": start_motion, "num": num, "floor": floor, "progress": progress}
        optional |= {"sampling_rate": sampling_rate, "batch_size": batch_size, "num_workers": num_workers}
        given = {name: value for name, value in optional.items() if value is not None}
        for name, lowest in (("batch_size", 1), ("num_workers", 0)):
            if name in given:
                given[name] = whole_number(name, given[name], lowest)
        if several and _is_iterator(song):
            song = (one for one in song)  # transformers knows generators alone
        elif several and not isinstance(song, list | Dataset):
            song = _Listed(song)
        if isinstance(song, list) and not song:
            return []
        return super().__call__(song, **given, **generate_kwargs)

    def _with_genres(self, songs: Any, genres: Any, several: bool) -> list[_Request]:
        """Songs with a genre each."""
        genres = list(genres)
        if not several or not isinstance(songs, Sized):
            raise ValueError(
                f"genre has {len(genres)} names for {'songs that come one by one' if several else 'one song'}: give one name, or "
                "a list of songs and as many names"
            )
        if len(genres) != len(songs):
            raise ValueError(
                f"genre has {len(genres)} names for {len(songs)} songs: give one name, or one for each song"
            )
        genres = [match_genre(genre, self.genres) for genre in genres]
        return [_Request(songs[index], genre) for index, genre in enumerate(genres)]

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        """Sort the options of `__call__` (or of the constructor) by the step that takes them, checking what is cheap to
        check, so that nothing is computed for an option that cannot be used."""
        first, last = {}, {}
        options = self._without_nested(options)
        for name in _MADE_HERE & options.keys():
            raise ValueError(
                f"{name}: the pipeline makes it from the song; to give it yourself use pipe.model.generate()"
            )
        for name in _NOT_GIVEN & options.keys():
            if options[name] not in (None, False):
                raise ValueError(f"{name}: the pipeline gives dances, not codes; use pipe.model.generate() for it")
        if (mode := options.get("mode")) is not None and mode not in MODES:
            raise ValueError(f"mode={mode!r} is unknown: give one of {', '.join(MODES)}")
        options = check_generation(
            options,
            self.model.generation_config,
            _OPTIONS,
            self.model.config.codebook_size,
            samples=True,
            where="the pipeline",
        )
        if "num" in options:
            options["num"] = whole_number("num", options["num"], 1, MOST_DANCES)
        copies = options.pop("num_return_sequences", None)
        if copies is not None and options.setdefault("num", copies) != copies:
            raise ValueError(
                f"num={options['num']} and num_return_sequences={copies} are the same option: give one of them"
            )
        if (seed := options.get("seed")) is not None:
            seed_number(seed)
            if options.get("generator") is not None:
                raise ValueError("seed and generator are both given; use one of them")
        if (generator := options.get("generator")) is not None and not isinstance(generator, torch.Generator):
            raise ValueError(f"generator of type {type(generator).__name__}: give a torch.Generator, or a seed")
        if (genre := options.get("genre")) is not None:
            options["genre"] = match_genre(genre, self.genres)
        check_helpers(
            *(options.get(name) for name in ("logits_processor", "streamer")), options.get("progress") or False
        )
        if (floor := options.get("floor")) is not None and not isinstance(floor, bool):
            raise ValueError(f"floor={floor!r}: give True or False")
        if "start_motion" in options:
            options["start_motion"] = self._beginning(options["start_motion"])
        for name in _FIRST & options.keys():
            first[name] = options.pop(name)
        for name in _LAST & options.keys():
            last[name] = options.pop(name)
        return first, options, last

    @staticmethod
    def _without_nested(options: dict[str, Any]) -> dict[str, Any]:
        """Options with those in `generate_kwargs`, where transformers' own pipelines take them, beside the others."""
        options = dict(options)
        nested = options.pop("generate_kwargs", None) or {}
        if not isinstance(nested, Mapping):
            raise ValueError(f"generate_kwargs={nested!r}: give a dictionary, such as {{'top_k': 20}}")
        if twice := sorted(map(str, nested.keys() & options.keys())):
            raise ValueError(f"{twice[0]} is given beside generate_kwargs and in it; give it once")
        return {**options, **nested}

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict,
        forward_params: dict,
        postprocess_params: dict,
    ) -> _Songs:
        """Dances to several songs, `batch_size` of them at once. In place of transformers' own, which reads songs in forked
        processes, where torch's threads are not, and fills batches up without a mask."""
        batch_size = whole_number("batch_size", batch_size, 1)
        workers = whole_number("num_workers", num_workers)
        songs = (inputs[index] for index in range(len(inputs))) if isinstance(inputs, Sized) else iter(inputs)

        def dances() -> Iterator[Any]:
            prepared = _ahead(lambda song: self.preprocess(song, **preprocess_params), songs, workers)
            while batch := list(itertools.islice(prepared, batch_size)):
                results = self.forward(_together(batch), **forward_params)
                yield from self._results(results, **postprocess_params)

        return _Songs(dances(), inputs)

    def preprocess(
        self,
        song: Any,
        genre: str | None = None,
        start: float = 0.0,
        duration: float | None = None,
        start_motion: Mapping[str, np.ndarray] | None = None,
        sampling_rate: int | None = None,
    ) -> dict[str, Any]:
        """One song as model inputs, with what belongs to it; lists of one, since several can be put together."""
        began = time.perf_counter()
        if isinstance(song, _Request):
            song, genre = song.song, song.genre or genre
        genre = genre or self.genres[0]
        features, name = _listen(song, self.processor.feature_extractor, start, duration, sampling_rate)
        inputs = dict(self.processor(features, genre))
        frames = inputs["num_frames"][0]
        placed = None
        if start_motion is not None:
            inputs |= self._encode(start_motion, frames)
            placed = np.asarray(start_motion["translation"])[0].tolist()
        model = str(self.model.name_or_path)
        notes = {
            "genre": genre,
            "model": Path(model).name if Path(model).is_dir() else model,
            "song": name,
            "start": start,
        }
        return {"inputs": inputs, "placed": [placed], "notes": [notes], "began": [began], "songs": [song]}

    def _beginning(self, motion: Any) -> Mapping[str, np.ndarray]:
        """What `start_motion` is given as -> {"poses", "translation"} at the model's frame rate."""
        fps = self.model.config.fps
        if not isinstance(motion, Mapping) and hasattr(motion, "poses") and hasattr(motion, "translation"):
            motion = {name: getattr(motion, name) for name in ("poses", "translation", "fps") if hasattr(motion, name)}
        if not isinstance(motion, Mapping) or not {"poses", "translation"} <= motion.keys():
            kind = f"the keys {sorted(motion)}" if isinstance(motion, Mapping) else f"type {type(motion).__name__}"
            raise ValueError(f"start_motion of {kind}: give {{'poses': (T, 24, 3), 'translation': (T, 3)}}, or a dance")
        if motion.get("fps", fps) != fps:
            raise ValueError(f"start_motion has {motion['fps']:g} frames a second: give {fps}")
        return motion

    @torch.no_grad()
    def _encode(self, start_motion: Mapping[str, np.ndarray], frames: int) -> dict[str, torch.Tensor]:
        """A dance to begin with, as codes [1, steps]."""
        fps, step = self.tokenizer.config.fps, self.tokenizer.config.frames_per_code
        poses, translation = (
            torch.as_tensor(start_motion[name], dtype=torch.float32) for name in ("poses", "translation")
        )
        steps = len(poses) // step
        if not 0 < steps * step < frames:
            raise ValueError(
                f"start_motion has {len(poses)} frames: give at least {step} and fewer than the song's {frames} (at {fps} "
                "frames a second)"
            )
        vectors = poses_to_motion(poses, translation)[None, : steps * step]
        codes = self.tokenizer.encode(vectors.to(self.tokenizer.device))
        return {"upper_codes": codes.upper_codes, "lower_codes": codes.lower_codes}

    def _forward(
        self,
        prepared: dict[str, Any],
        seed: int | None = None,
        num: int | None = None,
        progress: bool | Callable[[int, int], None] = False,
        generator: torch.Generator | None = None,
        generation_config: GenerationConfig | None = None,
        **generate_kwargs: Any,
    ) -> dict[str, Any]:
        songs = len(prepared["notes"])
        # Drawn from the system, so that torch.manual_seed in the user's code and this do not disturb each other.
        seeds = [int.from_bytes(os.urandom(4), "little") if seed is None else int(seed) for _ in range(songs)]
        config, defaults = self.model.config, self.model.generation_config
        if generation_config is not None:  # transformers wants all in one place
            generate_kwargs = {**_said(generation_config), **generate_kwargs}
        if num is not None:
            generate_kwargs["num_return_sequences"] = num
        if defaults.do_sample is None:
            # The likeliest codes alone soon repeat themselves: the dancer freezes. A model's own setting stands.
            generate_kwargs.setdefault("do_sample", True)
        random = {"seed": seeds} if generator is None else {"generator": generator}
        codes = prepared["inputs"]["input_features"].shape[1] // config.frames_per_code
        bar = progress is True
        with _progress_bar(codes, config.frames_per_code / config.fps) if bar else nullcontext(progress) as show:
            outputs = self.model.generate(**prepared["inputs"], **random, progress=show or False, **generate_kwargs)
        mode = generate_kwargs.get("mode") or getattr(defaults, "mode", None) or "paper"
        drawn = seeds if generator is None else [None] * songs
        notes = [
            {**one, "seed": one_seed, "mode": mode} for one, one_seed in zip(prepared["notes"], drawn, strict=True)
        ]
        codes = (outputs.upper_codes, outputs.lower_codes)
        return {**prepared, "notes": notes, "codes": codes, "num_frames": outputs.num_frames}

    def postprocess(self, results: dict[str, Any], floor: bool = True) -> Any:
        (dances,) = self._results(results, floor)
        return dances

    def _results(self, results: dict[str, Any], floor: bool = True) -> Iterator[Any]:
        """For each song its dance, or a list of dances."""
        songs = len(results["notes"])
        streams = [codes.to(self.device).chunk(songs) for codes in results["codes"]]
        counts = results["num_frames"].chunk(songs)
        for index, (notes, placed, began, song) in enumerate(
            zip(*(results[name] for name in ("notes", "placed", "began", "songs")), strict=True)
        ):
            codes = _Codes(*(stream[index] for stream in streams))
            made = self.processor.post_process_motion(codes, self.tokenizer, counts[index], floor, placed)
            notes = {**notes, "compute_seconds": round(time.perf_counter() - began, 3)}
            fps, genre = self.tokenizer.config.fps, notes["genre"]
            found = [
                self._dance({**dance, "fps": fps, "genre": genre, "metadata": {**notes, "index": number}}, song)
                for number, dance in enumerate(made)
            ]
            yield found if len(found) > 1 else found[0]

    def _dance(self, dance: dict[str, Any], song: Any) -> Any:
        """What a dance is given as; `song` is what it was made to."""
        return dance


# What the steps of the pipeline take; all else is for generate().
_FIRST = {"genre", "start", "duration", "start_motion", "sampling_rate"}
_LAST = {"floor"}
_OPTIONS = {*_FIRST, *_LAST, "seed", "generator", "num", "mode", "progress", "logits_processor", "streamer"}
_MADE_HERE = {"input_features", "genre_ids", "attention_mask", "num_frames", "upper_codes", "lower_codes"}
_NOT_GIVEN = {"output_scores", "output_logits", "return_dict_in_generate"}


def _said(config: GenerationConfig) -> dict[str, Any]:
    """What a generation configuration says, as keywords."""
    names = (*GENERATION_OPTIONS, *OWN_FIELDS)
    return {name: value for name in names if (value := getattr(config, name, None)) is not None}


def _is_iterator(songs: Any) -> bool:
    return isinstance(songs, collections.abc.Iterator) and not hasattr(songs, "read")


def _several(song: Any) -> bool:
    """Songs, as against one song: lists, data sets and columns of them, generators."""
    if isinstance(song, list | tuple):
        return as_songs(song)[1] or len(song) == 0
    if isinstance(song, str | bytes | bytearray | memoryview | Mapping) or hasattr(song, "read"):
        return False
    return isinstance(song, Sequence | Dataset) or _is_iterator(song)


class _Listed(Dataset):
    """A sequence that is no list, such as a column of a data set, as transformers' pipelines take data."""

    def __init__(self, songs: Sequence[Any]) -> None:
        self.songs = songs

    def __len__(self) -> int:
        return len(self.songs)

    def __getitem__(self, index: int) -> Any:
        return self.songs[index]


def _ahead(function: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """`map`, in so many threads, never further ahead than that."""
    if threads == 0:
        yield from map(function, items)
        return
    items = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting = collections.deque(pool.submit(function, item) for item in itertools.islice(items, threads))
        try:
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
                yield done
        finally:
            for future in waiting:
                future.cancel()


def _together(songs: list[dict[str, Any]]) -> dict[str, Any]:
    """What `preprocess` made of several songs as one batch: music filled up to the longest with zeros, which the mask is 0 on."""
    if len(songs) == 1:
        return songs[0]
    inputs = [song["inputs"] for song in songs]
    longest = max(one["input_features"].shape[1] for one in inputs)
    missing = [longest - one["input_features"].shape[1] for one in inputs]
    batch: dict[str, Any] = {
        "input_features": torch.cat(
            [F.pad(one["input_features"], (0, 0, 0, few)) for one, few in zip(inputs, missing, strict=True)]
        ),
        "attention_mask": torch.cat(
            [F.pad(one["attention_mask"], (0, few)) for one, few in zip(inputs, missing, strict=True)]
        ),
        "num_frames": [count for one in inputs for count in one["num_frames"]],
    }
    for name in inputs[0].keys() - batch.keys():
        batch[name] = torch.cat([one[name] for one in inputs])
    lists = {name: [entry for song in songs for entry in song[name]] for name in ("placed", "notes", "began", "songs")}
    return {"inputs": batch, **lists}


__all__ = ["DancePipeline", "find_device", "load_weights"]
