"""The pipeline "music-to-dance" as it is pushed with a model: songs in, arrays out.

    pipe = pipeline("music-to-dance", model="OWNER/NAME", trust_remote_code=True)
    dance = pipe("song.mp3", genre="waltz", seed=0)    # {"poses": (T, 24, 3), "translation": (T, 3), "fps": 30, ...}

Where megadance-hf is installed, its `MusicToDancePipeline` gives the same dance as a `Motion`, which saves itself as a video.
"""

import collections
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset, Subset
from transformers.generation.configuration_utils import GenerationConfig
from transformers.pipelines.base import Pipeline
from transformers.utils import logging

from .arguments_megadance import (
    GENERATION_OPTIONS,
    LENGTH_OPTIONS,
    MOST_DANCES,
    OWN_FIELDS,
    check_generation,
    check_helpers,
    random_seed,
    seed_number,
    unknown_option,
    whole_number,
)
from .audio_megadance import AudioError, as_songs, opened
from .backends_megadance import check_backend
from .checkpoints_megadance import TOKENIZER_FOLDER, source_of
from .errors_megadance import ModelError, one_line
from .feature_extraction_megadance import MegaDanceFeatureExtractor
from .folders_megadance import check_parts
from .generation_megadance import MODES
from .hearing_megadance import AUTO, describe_hearing, is_auto, replace_auto
from .holds_megadance import free_ends, held_seconds, place_hold, read_hold, with_known_codes
from .kinematics_megadance import BODY_PARTS, poses_to_motion, root_heading
from .loading_megadance import find_device, load_weights
from .modeling_megadance import MegaDanceForMotionGeneration
from .modeling_megadance_tokenizer import MegaDanceTokenizer
from .music_features_megadance import MFCC
from .plans_megadance import CHANGES, DirectionError, Genres, Plan, code_weights, first_codes, read_genres, read_plan
from .processing_megadance import MegaDanceProcessor
from .progress_megadance import progress_bar
from .redo_megadance import redo_passage
from .remote_code_megadance import PushesCode
from .rhythm_megadance import find_downbeats
from .threads_megadance import own_threads, use_one_thread
from .wishes_megadance import Asked, Prompt, code_attributes, find_chorus, plain_attributes, read_attributes

logger = logging.get_logger(__name__)


class _Dances(Iterator):
    """An iterator that makes each dance when it is requested; it has a length if the songs do."""

    def __init__(self, dances: Iterator[Any], songs: Any) -> None:
        self._dances, self._songs = dances, songs

    def __next__(self) -> Any:
        return next(self._dances)

    def __len__(self) -> int:
        return len(self._songs)


@dataclass
class _Request:
    """One song, with its own genre or that of the call."""

    song: Any
    genre: Genres | None


@contextmanager
def _progress_bar(codes: int, seconds_per_code: float) -> Iterator[Callable[[int, int], None]]:
    """A function for `generate(progress=...)` that shows seconds of dance; the bar is closed also after an error."""
    layout = "{desc} {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}]"
    with progress_bar(desc="dancing", total=codes * seconds_per_code, unit="s", bar_format=layout) as bar:
        yield lambda done, total: bar.update(done * seconds_per_code - bar.n)


class DancePipeline(PushesCode, Pipeline):
    """Songs in, dances out, as arrays.

    Args:
        model: a `MegaDanceForMotionGeneration`.
        tokenizer, processor, feature_extractor: the other parts, or their folders or Hub ids; those left out are loaded from
            where the model came from.
        device: "cpu", "cuda", ..., or a number as in transformers; that of the model when None.

    Attributes:
        model, tokenizer, processor: the parts.
        genres: the genres that can be chosen.

    Raises:
        ModelError: a part cannot be loaded, or the parts do not fit together. ValueError: there is no such device.
    """

    processor: MegaDanceProcessor
    tokenizer: MegaDanceTokenizer

    _processor_class = MegaDanceProcessor
    # transformers must not search for text tokenizers and image processors
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
        # compared by name: with remote code the class may have been loaded twice
        if not any(kind.__name__ == MegaDanceForMotionGeneration.__name__ for kind in type(model).__mro__):
            what = repr(model) if isinstance(model, str | os.PathLike) else f"of type {type(model).__name__}"
            raise ModelError(
                f"model {what} is no MegaDanceForMotionGeneration: give one, or use from_pretrained, or "
                "transformers.pipeline('music-to-dance', model=...), for a folder or a Hub id"
            )
        device = find_device(device)
        source, hub = source_of(model)
        # transformers.pipeline() passes names on as they are
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
        if spread := getattr(model, "hf_device_map", None):
            # transformers takes the first of them for the pipeline's device
            model.hf_device_map = dict(sorted(spread.items(), key=lambda entry: entry[1] == "disk"))
        super().__init__(model=model, processor=processor, device=device, **kwargs)
        self._last_rhythm: tuple[list[Any], torch.Tensor, torch.Tensor | None] | None = None
        # After the base class, which expects a text tokenizer. Always float32: rounding makes joints tremble.
        self.tokenizer = processor.motion_tokenizer = tokenizer.to(self.device)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save all parts to a folder: the generator, `tokenizer/`, the processor."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(Path(save_directory) / TOKENIZER_FOLDER, **kwargs)
        self.processor.save_pretrained(save_directory)

    def to(self, *args: Any, **kwargs: Any) -> "DancePipeline":
        """Move the pipeline to a device, or the generator to another dtype, with the arguments of `torch.nn.Module.to`. The motion
        tokenizer stays float32. Returns the pipeline itself.

        Raises:
            ValueError: there is no such device, or the dtype is no floating point type.
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
        """Names of the genres that the model has loaded."""
        return self.model.config.built_genres

    def __call__(
        self,
        song: Any = None,
        genre: str | Mapping[str, float] | Sequence[str | Mapping[str, float]] | None = None,
        *,
        plan: Sequence[tuple[str | Mapping[str, float], float]] | None = None,
        changes: str | None = None,
        prompt: str | None = None,
        attributes: Mapping[str, float | Sequence[tuple[float, float]]] | None = None,
        seed: int | None = None,
        duration: float | None = None,
        start: float | None = None,
        mode: str | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        num: int | None = None,
        candidates: int | None = None,
        start_motion: Any = None,
        hold: Mapping[float | str, Any] | None = None,
        loop: bool | None = None,
        floor: bool | None = None,
        clean: bool | None = None,
        progress: bool | Callable[[int, int], None] | None = None,
        sampling_rate: int | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **generate_kwargs: Any,
    ) -> Any:
        """Generate a dance to a song; it is as long as the song, to the frame, unless an option ends it before.

        Args:
            song: any playable file (path, http(s) address, bytes, open file or pipe); (waveform, sampling rate); a row of an Audio
                column, or anything else that `open_sound` takes; or {"input_features": (frames, 35)}, raw features; with "begins" and
                "ends" False for an excerpt that begins, or ends, within its song, and the features "before" and "after" it, from which
                beat and bar are read as well (`listen_to_excerpt`). A list of songs gives a list of dances; a
                generator or a data set of songs gives an iterator over dances. `inputs` is another name for it.
            genre: one of `genres`, ignoring capitals and hyphens. "auto", as when None, takes the one that the model hears in the song
                (`hear_genre`); the first of `genres` where the model cannot hear. `metadata["assumed"]` says so. Or weights of several,
                {"rumba": 0.7, "waltz": 0.3}, whose log-probabilities are added; each is a forward pass more. For a list of songs one
                for all, or a list with one per song.
            plan: in place of `genre`: several in one dance, [("waltz", 0.0), ("tango", 21.5)], each with the second of the dance (not
                of the song, where `start` is given) from which on it is danced. Changes are moved to the nearest beginning of a code,
                by up to 0.13 s. "auto" stands for the genre that is heard in the whole song.
            changes: "bar" moves each change of the plan to the code nearest to a bar's beginning, as the model's rhythm encoder hears
                it; "code" when None. `metadata["plan"]` has the seconds of the changes that were danced.
            prompt: what the dance is to be like, in words: "slow and wide, more turns, no jumps, tango at the chorus" (`read_prompt`). Its genres
                are danced where `genre` and `plan` are not given, its attributes where `attributes` does not name them. What was
                understood, and what was not, is in `metadata["prompt"]`; the latter is logged as well. The chorus is assumed to be
                where the sound is fullest.
            attributes: how the dance is to move, {"energy": 0.8, "turns": 0.1}: quantiles from 0 to 1 of what dancers of the genre did, 0.5 is
                usual; or {"speed": [(0.0, 0.2), (12.0, 0.9)]} with the seconds of the dance from which on they hold. The names are
                those of `model.config.attributes`.
            seed: the same seed gives the same dance. A whole number of 0 or more, taken modulo 2**64. When None it is drawn from
                torch's global random numbers, which `set_seed` and `torch.manual_seed` fix (it is in `metadata["seed"]`).
            duration: seconds of the song to dance to; to its end when None.
            start: second of the song to begin at, 0 when None. Up to 90 s around the excerpt are analysed as well, so that its
                tempo, beat and bar are the song's. Only where the song itself begins or ends, the dance leaves a standing position, or comes to one
                (part of `clean`).
            mode: "released", "paper" or "stream": how generation limits music and past codes (see `generate`); the model's default
                when None.
            temperature: above 0; likelier codes below 1, more surprising ones above 1.
            top_k: sample from this number of likeliest codes; 0 from all.
            num: number of dances to this song; more than one gives a list. `num_return_sequences` is the same.
            candidates: make so many dances and return the `num` that the model finds likeliest, the likeliest first.
                `metadata["log_likelihood"]` is the mean of a code, in nats.
            start_motion: a dance to begin with, {"poses", "translation"} at the model's frame rate: its first whole codes (8
                frames each) are played at the beginning of the song, then the model continues. It must be shorter than the song.
            hold: {12.0: pose}: poses (24, 3), axis-angle, or clips as `start_motion`, each with the second of the dance at which it begins, or
                "end" where it is to end with the dance. The dance reaches and leaves them: their codes are known to the model, and the
                motion is bent towards them within 0.6 s before and after. They face as the dancer does then. Codes before do not foresee
                them, so several `candidates` make better dances.
            loop: the dance ends in the pose, the direction and the place in which it begins. It neither leaves a standing position nor
                comes to one.
            floor, clean: see `MegaDanceProcessor.post_process_motion`; True when None.
            progress: show a progress bar; or a function called with (codes done, codes in all), which may raise to stop.
            sampling_rate: of a song that is an array, in Hz.
            batch_size: number of songs to dance to at once, which is faster with many cores or a GPU. The dances are the same as
                without batching, up to rounding.
            num_workers: number of threads that read the next songs meanwhile; 0 reads them one after the other.
            generate_kwargs: passed to `model.generate()`: `generator` instead of a seed, `top_p`, `do_sample`,
                `generation_config`, `logits_processor`, `stopping_criteria`, `max_new_tokens`, `streamer`, `backend`, ... Options
                without effect are refused.

        Returns:
            {"poses": (T, 24, 3) axis-angle of the SMPL joints, "translation": (T, 3) of the pelvis, metres, Y up, "fps": 30,
            "genre", "metadata"}; `metadata` has seed (None with a `generator`), index, genre, mode, model, song, start,
            `compute_seconds`, the time it took (shared by all dances of a batch), `clean_up`, what the clean-up changed, and `codes`,
            {"upper": [...], "lower": [...]}; `prompt` and `attributes` where they were asked for. Of several genres, `genre` is the one that
            has most weight, and `plan` has all of them. Where the genre is not given, `assumed` says in words where it is from, and `heard`
            has the probabilities of all genres.

        Raises:
            AudioError: a song cannot be used. GenreError: unknown genre. DirectionError: the dance cannot have this plan or pose.
            ValueError: another argument is not possible.
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
        optional: dict[str, Any] = {"start": start, "duration": duration, "genre": genre, "start_motion": start_motion}
        optional |= {"seed": seed, "mode": mode, "temperature": temperature, "top_k": top_k, "num": num}
        optional |= {"prompt": prompt, "attributes": attributes}
        optional |= {"plan": plan, "changes": changes, "candidates": candidates, "hold": hold, "loop": loop}
        optional |= {"floor": floor, "clean": clean, "progress": progress, "sampling_rate": sampling_rate}
        optional |= {"batch_size": batch_size, "num_workers": num_workers}
        given = {name: value for name, value in optional.items() if value is not None}
        for name, lowest in (("batch_size", 1), ("num_workers", 0)):
            if name in given:
                given[name] = whole_number(name, given[name], lowest)
        if several and _is_iterator(song):
            song = (one for one in song)  # transformers accepts generators, but no other iterators
        elif several and not isinstance(song, list | Dataset):
            song = Subset(song, range(len(song)))  # a data set, which transformers accepts
        if isinstance(song, list) and not song:
            return []
        return super().__call__(song, **given, **generate_kwargs)

    @property
    def hears_genres(self) -> bool:
        """Whether the model can hear which of its genres a song is for."""
        return self.model.config.hears_genres

    def hear_genre(
        self,
        song: Any,
        *,
        start: float = 0.0,
        duration: float | None = None,
        sampling_rate: int | None = None,
    ) -> dict[str, float] | None:
        """How likely a song is for each of the genres, the likeliest first: {"waltz": 0.93, "rumba": 0.04, ...}.

        Args:
            song, start, duration, sampling_rate: one song, or an excerpt, as in `__call__`. Up to 90 s around an excerpt are heard as well.

        Returns:
            probabilities with the sum 1; all are low for a song that is for none of the genres. None if the model cannot hear genres.

        Raises:
            AudioError: the song cannot be used.
        """
        features, _ = self._features(song, start, duration, sampling_rate)
        return self._hear(features)

    def _features(
        self, song: Any, start: float, duration: float | None, sampling_rate: int | None
    ) -> tuple[dict[str, Any], str | None]:
        """A song's features, with those around it, and its name."""
        if isinstance(song, Mapping) and "input_features" in song:
            if start or duration is not None:
                raise ValueError(
                    f"start={start}, duration={duration}: input_features are danced to as they are; cut them first"
                )
            return dict(song), song.get("name")
        with opened(song, sampling_rate, argument="song") as sound:
            if sampling_rate is not None and sound.rate is None:
                raise AudioError(f"sampling_rate={sampling_rate!r}: {sound.name} brings its own; leave it out")
            return self.processor.feature_extractor.listen_to_excerpt(sound, start, duration), sound.title

    @torch.no_grad()
    def _hear(self, features: Mapping[str, Any]) -> dict[str, float] | None:
        """`hear_genre` of a song's features."""
        parts = [np.asarray(features.get(name, ()), np.float32) for name in ("before", "input_features", "after")]
        rows = np.concatenate([part.reshape(-1, self.model.config.music_feature_size) for part in parts])
        heard = self.model.hear_genre(torch.from_numpy(rows)[None])
        if heard is None:
            return None
        known = {name: float(share) for name, share in zip(self.model.config.genres, heard[0], strict=True)}
        shares = {name: known[name] for name in self.genres}  # those that are loaded
        total = sum(shares.values())
        ordered = sorted(shares, key=lambda name: -shares[name])
        return {name: round(shares[name] / total, 4) for name in ordered}

    def _choose_genre(self, features: Mapping[str, Any], wanted: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """The genre of a song for which none is given, one of those that are `wanted`, and what the metadata say of it."""
        heard = self._hear(features)
        if heard is None:
            several = len(wanted) > 1
            return wanted[0], {"assumed": "genre: the model's first, as it cannot hear"} if several else {}
        logger.info(describe_hearing(heard))
        best = next(genre for genre in heard if genre in wanted)
        return best, {"heard": heard, "assumed": "genre: heard in the song"}

    def redo(
        self,
        dance: Any,
        song: Any,
        start: float,
        end: float,
        part: str = "all",
        *,
        candidates: int = 4,
        num: int = 1,
        prompt: str | None = None,
        attributes: Mapping[str, float | Sequence[tuple[float, float]]] | None = None,
        hold: Mapping[float | str, Any] | None = None,
        seed: int | None = None,
        sampling_rate: int | None = None,
        progress: bool | Callable[[int, int], None] | None = None,
        **generate_kwargs: Any,
    ) -> Any:
        """Dance a passage anew; the rest of the dance stays as it is, to the last bit.

            better = pipe.redo(dance, "song.mp3", 12.0, 16.0, part="upper", seed=1)

        Codes are kept outside the passage, and of the other half of the body. Of several candidates the one is taken that the model finds
        likeliest together with what follows it, and that ends near to where the dance goes on: it has to be led there. Within the
        passage's first and last 0.6 s the motion passes over from the old one. What it costs does not depend on the dance's length.

        Args:
            dance: one that this model made, {"poses", "translation", "metadata", ...}, with its codes in the metadata.
            song: the song it was made to, in any form of `__call__`.
            start, end: seconds of the dance, moved to the nearest beginning of a code, by up to 0.13 s.
            part: "all", or the half of the body to dance anew, "upper" or "lower"; the other half keeps its poses, and with the lower body
                the path.
            candidates: how many to make.
            num: how many of them to return, the likeliest first; more than one gives a list.
            prompt, attributes: how the passage is to be danced, as in `__call__`: "higher arms". What they do not name is asked for as it
                was of the dance. A prompt that names genres is refused.
            hold: poses or clips that the passage meets, by the second of the dance, as in `__call__`. They lie in the passage, and 0.6 s from
                where the old dance goes on; of half a body that is danced anew, this half meets them.
            seed, sampling_rate, progress, generate_kwargs: as in `__call__`; genres and mode are those of the dance.

        Returns:
            as `__call__`; `metadata["redone"]` has start, end, part and seed of each time, `metadata["log_likelihood"]` is of the passage
            and the two seconds that follow it, where there were several candidates.

        Raises:
            AudioError: the song cannot be used. DirectionError: the dance has no codes, is not to this song or not of this model; the
                passage is none, has an end of a dance that ends where it begins, or cannot meet what is held. ValueError: another argument is not possible.
        """
        return redo_passage(
            self,
            dance,
            song,
            (start, end),
            part,
            candidates=candidates,
            num=num,
            prompt=prompt,
            attributes=attributes,
            hold=hold,
            seed=seed,
            sampling_rate=sampling_rate,
            progress=progress,
            **generate_kwargs,
        )

    def _read_prompt(self, text: Any) -> Prompt:
        config = self.model.config
        return Prompt.read(text, config.genres, config.attributes, self.genres)

    def _with_genres(self, songs: Any, genres: Any, several: bool) -> list[_Request]:
        """Pair each song with its genre."""
        genres = list(genres)
        if not several or not hasattr(songs, "__len__"):
            raise ValueError(
                f"genre has {len(genres)} names for {'songs that come one by one' if several else 'one song'}: give one name, or "
                "a list of songs and as many names"
            )
        if len(genres) != len(songs):
            raise ValueError(
                f"genre has {len(genres)} names for {len(songs)} songs: give one name, or one for each song"
            )
        genres = [None if is_auto(genre, self.genres) else read_genres(genre, self.genres) for genre in genres]
        return [_Request(songs[index], genre) for index, genre in enumerate(genres)]

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        """Sort the options of `__call__` (or of the constructor) by the step that takes them. All are checked first, so that nothing
        is computed for an option that cannot be used."""
        options = self._without_nested(options)
        for name in _MODEL_INPUTS & options.keys():
            raise ValueError(
                f"{name}: the pipeline makes it from the song; to give it yourself use pipe.model.generate()"
            )
        for name in _NO_OUTPUT & options.keys():
            if options[name] not in (None, False):
                raise ValueError(f"{name}: the pipeline gives dances, not codes; use pipe.model.generate() for it")
        if (mode := options.get("mode")) is not None and mode not in MODES:
            raise ValueError(f"mode={mode!r} is unknown: give one of {', '.join(MODES)}")
        if "backend" in options:
            check_backend(options["backend"])
        own, size = self.model.generation_config, self.model.config.codebook_size
        options = check_generation(options, own, _OPTIONS, size, samples=True, where="the pipeline")
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
            options["genre"] = None if is_auto(genre, self.genres) else read_genres(genre, self.genres)
        if (plan := options.get("plan")) is not None:
            if genre is not None:
                raise ValueError("genre and plan are both given: give the plan alone")
            options["plan"] = read_plan(plan, [*self.genres, AUTO])
            if any(isinstance(danced, dict) and AUTO in danced for danced, _ in options["plan"]):
                raise DirectionError("plan mixes 'auto' with other genres: give it alone, or the genres by name")
        if (prompt := options.get("prompt")) is not None:
            options["prompt"] = self._read_prompt(prompt)
            options["prompt"].check_genres(options.get("genre"), options.get("plan"))
            if unknown := options["prompt"].directions.not_understood:
                logger.warning(f"prompt: not understood: {', '.join(unknown)}")
        if (attributes := options.get("attributes")) is not None:
            options["attributes"] = read_attributes(attributes, self.model.config.attributes)
        if (changes := options.get("changes")) is not None:
            if changes not in CHANGES:
                raise ValueError(f"changes={changes!r} is unknown: give one of {', '.join(CHANGES)}")
            parts = prompt is not None and options["prompt"].directions.parts
            if not parts and (plan is None or len(options["plan"]) == 1):
                raise ValueError(f"changes={changes!r} does nothing alone: give a plan with changes")
        if (candidates := options.get("candidates")) is not None:
            options["candidates"] = whole_number("candidates", candidates, options.get("num") or 1, MOST_DANCES)
        helpers = (options.get(name) for name in ("logits_processor", "stopping_criteria", "streamer", "progress"))
        check_helpers(*helpers)
        for name in _POSTPROCESS & options.keys():
            if not isinstance(options[name], bool | None):
                raise ValueError(f"{name}={options[name]!r}: give True or False")
        if "start_motion" in options:
            options["start_motion"] = self._check_start_motion(options["start_motion"])
        if (hold := options.get("hold")) is not None:
            options["hold"] = read_hold(hold, self._check_start_motion)
        if not isinstance(loop := options.get("loop"), bool | None):
            raise ValueError(f"loop={loop!r}: give True or False")
        first = {name: options.pop(name) for name in _PREPROCESS & options.keys()}
        last = {name: options.pop(name) for name in _POSTPROCESS & options.keys()}
        return first, options, last

    @staticmethod
    def _without_nested(options: dict[str, Any]) -> dict[str, Any]:
        """The options, with those nested in `generate_kwargs`, as in transformers' own pipelines, merged in."""
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
    ) -> _Dances:
        """Dances to several songs, `batch_size` of them at once. Replaces transformers' own, which reads songs in forked processes,
        without torch's threads, and pads batches without a mask."""
        batch_size = whole_number("batch_size", batch_size, 1)
        workers = whole_number("num_workers", num_workers)
        songs = (inputs[index] for index in range(len(inputs))) if hasattr(inputs, "__len__") else iter(inputs)

        def dances() -> Iterator[Any]:
            prepared = _prefetch(lambda song: self.preprocess(song, **preprocess_params), songs, workers)
            while batch := list(itertools.islice(prepared, batch_size)):
                results = self.forward(_collate(batch), **forward_params)
                yield from self._results(results, **postprocess_params)

        return _Dances(dances(), inputs)

    def preprocess(
        self,
        song: Any,
        genre: Genres | None = None,
        plan: Plan | None = None,
        changes: str | None = None,
        prompt: Prompt | None = None,
        attributes: Asked | None = None,
        start: float = 0.0,
        duration: float | None = None,
        start_motion: Mapping[str, np.ndarray] | None = None,
        hold: Mapping[float | str, torch.Tensor] | None = None,
        loop: bool | None = False,
        sampling_rate: int | None = None,
    ) -> dict[str, Any]:
        """One song as model inputs, with its metadata, in lists of one that `_collate` can join."""
        began = time.perf_counter()
        if isinstance(song, _Request):
            if song.genre is not None and plan is not None:
                raise ValueError("genre and plan are both given: give the plan alone")
            if song.genre is not None and prompt is not None:
                prompt.check_genres(song.genre, None)
            song, genre = song.song, song.genre or genre
        features, name = self._features(song, start, duration, sampling_rate)
        inputs = dict(self.processor(features, self.genres[0]))
        frames, config, chorus = inputs["num_frames"][0], self.model.config, None
        if prompt is not None:
            if prompt.needs_chorus:
                # the first coefficient is the mean of all bands, in decibels
                chorus = find_chorus(inputs["input_features"][0, :frames, MFCC.start].numpy(), config.fps)
            if plan is None:
                plan = prompt.plan(genre or AUTO, frames / config.fps, chorus)
                if changes is None and len(plan) > 1 and prompt.names_sections and config.rhythm_size:
                    changes = _NEAR_BAR
            attributes = {**prompt.asked(frames / config.fps, chorus), **(attributes or {})}
        plan, changes = plan or [(genre or AUTO, 0.0)], changes or "code"
        notes: dict[str, Any] = {}
        if any(danced == AUTO for danced, _ in plan):
            chosen, notes = self._choose_genre(
                features, self.genres if prompt is None else prompt.wanted_genres(self.genres)
            )
            plan = replace_auto(plan, chosen)
        first = plan[0][0]
        main = first if isinstance(first, str) else max(first, key=lambda name: first[name])
        inputs["genre_ids"] = torch.full_like(inputs["genre_ids"], self.model.genre_id(main))
        if attributes:
            codes, step = inputs["input_features"].shape[1] // config.frames_per_code, config.frames_per_code
            inputs["attributes"] = code_attributes(attributes, codes, step / config.fps, config.attributes)[None]
        position = heading = None  # of the pelvis in the first frame
        if start_motion is not None:
            inputs |= self._encode(start_motion, frames)
            position = np.asarray(start_motion["translation"])[0].tolist()
            pose = torch.as_tensor(np.asarray(start_motion["poses"])[:1], dtype=torch.float32)
            heading = float(root_heading(poses_to_motion(pose, torch.zeros(1, 3))))
        held = place_hold(hold or {}, frames, config.fps, config.frames_per_code)
        if held or loop:
            inputs = with_known_codes(self.tokenizer, inputs, held)
        model = str(self.model.name_or_path)
        model = Path(model).name if Path(model).is_dir() else model
        metadata = {"genre": main, **notes, "model": model, "song": name, "start": start}
        if prompt is not None:
            metadata["prompt"] = prompt.notes(chorus)
        if attributes:
            metadata["attributes"] = plain_attributes(attributes)
        # a start motion is kept as it is, so it begins where it begins
        whole = (bool(features.get("begins", True)) and start_motion is None, bool(features.get("ends", True)))
        free = free_ends(held, frames, config.fps)
        whole = (whole[0] and not loop and free[0], whole[1] and not loop and free[1])
        if held:
            metadata["hold"] = held_seconds(held, config.fps)
        if loop:
            metadata["loop"] = True
        # the excerpt's last code may go on beyond it
        after = features.get("after", ())[inputs["input_features"].shape[1] - frames :]
        around = [
            torch.from_numpy(np.asarray(rows, dtype=np.float32)) if len(rows) else None
            for rows in (features.get("before", ()), after)
        ]
        entries = (position, heading, whole, around, (plan, changes), (held, bool(loop)), metadata, began, song)
        return {"inputs": inputs, **{name: [entry] for name, entry in zip(_PER_SONG, entries, strict=True)}}

    def _check_start_motion(self, motion: Any, name: str = "start_motion") -> Mapping[str, np.ndarray]:
        """`start_motion`, a mapping or a `Motion` -> {"poses", "translation"} at the model's frame rate."""
        fps = self.model.config.fps
        if not isinstance(motion, Mapping) and hasattr(motion, "poses") and hasattr(motion, "translation"):
            motion = {name: getattr(motion, name) for name in ("poses", "translation", "fps") if hasattr(motion, name)}
        if not isinstance(motion, Mapping) or not {"poses", "translation"} <= motion.keys():
            kind = f"the keys {sorted(motion)}" if isinstance(motion, Mapping) else f"type {type(motion).__name__}"
            raise ValueError(f"{name} of {kind}: give {{'poses': (T, 24, 3), 'translation': (T, 3)}}, or a dance")
        if motion.get("fps", fps) != fps:
            raise ValueError(f"{name} has {motion['fps']:g} frames per second: give {fps}")
        return motion

    @torch.no_grad()
    def _encode(self, start_motion: Mapping[str, np.ndarray], frames: int) -> dict[str, Any]:
        """The start motion as codes [1, steps]."""
        fps, step = self.tokenizer.config.fps, self.tokenizer.config.frames_per_code
        poses, translation = (
            torch.as_tensor(start_motion[name], dtype=torch.float32) for name in ("poses", "translation")
        )
        steps = len(poses) // step
        if not 0 < steps * step < frames:
            raise ValueError(
                f"start_motion has {len(poses)} frames: give at least {step} and fewer than the song's {frames} (at {fps} "
                "frames per second)"
            )
        vectors = poses_to_motion(poses, translation)[None, : steps * step]
        codes = self.tokenizer.encode(vectors.to(self.tokenizer.device))
        return {"upper_codes": codes.upper_codes, "lower_codes": codes.lower_codes}

    def _end_as_begun(self, inputs: dict[str, Any], loops: list[bool], options: dict[str, Any]) -> dict[str, Any]:
        """The inputs of a batch with the first code drawn, where a dance is a loop, and known as the last one, too."""
        if not any(loops):
            return inputs
        known, mask = inputs["known_codes"].clone(), inputs["known_mask"].clone()
        one = {
            name: value
            for name, value in options.items()
            if name not in (*LENGTH_OPTIONS, "num_return_sequences", "streamer")
        }
        first = {"known_codes": known[:, :, :1], "known_mask": mask[:, :, :1]}
        begun = self.model.generate(**{**inputs, **first}, **one, max_length=1)
        assert begun.upper_codes is not None and begun.lower_codes is not None
        lengths = inputs["attention_mask"].sum(1) // self.model.config.frames_per_code
        for index, loop in enumerate(loops):
            if loop:
                pair = torch.stack((begun.upper_codes[index, 0], begun.lower_codes[index, 0])).cpu()
                for place in (0, int(lengths[index]) - 1):
                    known[index, :, place], mask[index, :, place] = pair, True
        return {**inputs, "known_codes": known, "known_mask": mask}

    def _forward(
        self,
        prepared: dict[str, Any],
        seed: int | None = None,
        num: int | None = None,
        candidates: int | None = None,
        progress: bool | Callable[[int, int], None] = False,
        generator: torch.Generator | None = None,
        generation_config: GenerationConfig | None = None,
        scored: tuple[int, int] | None = None,
        **generate_kwargs: Any,
    ) -> dict[str, Any]:
        """Dances to the songs; of `candidates` the likeliest, by the codes of the range `scored`, by all when None."""
        songs = len(prepared["metadata"])
        seeds = [random_seed() if seed is None else int(seed) for _ in range(songs)]
        config, defaults = self.model.config, self.model.generation_config
        if generation_config is not None:  # transformers does not accept both a configuration and keywords
            fields = {name: getattr(generation_config, name, None) for name in (*GENERATION_OPTIONS, *OWN_FIELDS)}
            generate_kwargs = {name: v for name, v in fields.items() if v is not None} | generate_kwargs
        if num is not None or candidates is not None:
            generate_kwargs["num_return_sequences"] = candidates or num
        if defaults.do_sample is None:
            # The likeliest codes alone soon repeat themselves: the dancer freezes. A model's own setting has precedence.
            generate_kwargs.setdefault("do_sample", True)
        random = {"seed": seeds} if generator is None else {"generator": generator}
        codes = prepared["inputs"]["input_features"].shape[1] // config.frames_per_code
        bar = progress is True
        with _progress_bar(codes, config.frames_per_code / config.fps) if bar else nullcontext(progress) as show:
            rhythm = self._rhythm(prepared, candidates is not None or scored is not None)
            inputs = prepared["inputs"] if rhythm is None else {**prepared["inputs"], "rhythm": rhythm}
            genre_ids, plans = self._plan_genres(prepared, rhythm)
            inputs = {**inputs, "genre_ids": genre_ids}
            loops = [loop for _, loop in prepared["held"]]
            inputs = self._end_as_begun(inputs, loops, {**random, **generate_kwargs})
            outputs = self.model.generate(**inputs, **random, progress=show or False, **generate_kwargs)
        mode = generate_kwargs.get("mode") or getattr(defaults, "mode", None) or "paper"
        known = seeds if generator is None else [None] * songs
        metadata = [
            {**one, **plan, "seed": one_seed, "mode": mode}
            for one, plan, one_seed in zip(prepared["metadata"], plans, known, strict=True)
        ]
        streams, counts, likelihoods = (outputs.upper_codes, outputs.lower_codes), outputs.num_frames, None
        if candidates is not None:
            music = {name: value for name, value in inputs.items() if name not in _CODES}
            given = dict(zip(("upper_codes", "lower_codes"), streams, strict=True))
            backend = {"backend": generate_kwargs["backend"]} if "backend" in generate_kwargs else {}
            first, last = scored or (1, streams[0].shape[1])
            ends, given = outputs.lengths.clamp(max=last), {name: one[:, :last] for name, one in given.items()}
            scores = self.model.score(**music, **given, mode=mode, lengths=ends, first=first, **backend)
            counts_scored = (ends - first).clamp(min=1)
            best = self.model.rank(scores, candidates, counts_scored + 1)[:, : num or 1].flatten()
            likelihoods = (scores.sum((1, 2)) / counts_scored)[best].chunk(songs)
            streams, counts = tuple(stream[best] for stream in streams), counts[best]
        return {**prepared, "metadata": metadata, "codes": streams, "num_frames": counts, "likelihoods": likelihoods}

    def _plan_genres(
        self, prepared: dict[str, Any], rhythm: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """`genre_ids` of `generate()` for the songs' plans, and what the metadata say of each."""
        config, plans = self.model.config, prepared["plans"]
        if all(len(plan) == 1 and isinstance(plan[0][0], str) for plan, _ in plans):
            return prepared["inputs"]["genre_ids"], [{} for _ in plans]
        step, lengths = config.frames_per_code, prepared["inputs"]["attention_mask"].sum(1)
        rows, notes = [], []
        for index, (plan, changes) in enumerate(plans):
            codes, downbeats = int(lengths[index]) // step, []
            if changes != "code":
                if rhythm is None:
                    raise DirectionError(
                        "changes='bar': this model has no rhythm encoder, which hears bars; leave it out"
                    )
                downbeats = find_downbeats(rhythm[index, : codes * step])
            try:
                firsts = first_codes(plan, codes, step, config.fps, downbeats)
            except DirectionError:
                if changes != _NEAR_BAR:
                    raise
                firsts, changes = first_codes(plan, codes, step, config.fps), "code"
            weights = code_weights(plan, firsts, codes, config.genres)
            rows.append(weights)
            note: dict[str, Any] = {"genre": config.genres[int(weights.sum(0).argmax())]}
            if len(plan) > 1 or not isinstance(plan[0][0], str):
                begins = (round(first * step / config.fps, 4) for first in firsts)
                note["plan"] = [[genre, begin] for (genre, _), begin in zip(plan, begins, strict=True)]
            if changes != "code":
                note["changes"] = "bar"
            notes.append(note)
        most = max(len(row) for row in rows)
        padded = [torch.cat((row, row[-1:].expand(most - len(row), -1))) for row in rows]
        return torch.stack(padded), notes

    def _rhythm(self, prepared: dict[str, Any], several: bool = False) -> torch.Tensor | None:
        """Beat and bar [batch, frames, 4] of the songs, of excerpts read from the music around them as well; None where all songs are whole,
        nobody asks for bars, and they are not needed `several` times, to score candidates or for the next redo."""
        bars = any(changes != "code" for _, changes in prepared["plans"])
        if not several and not bars and all(before is None and after is None for before, after in prepared["around"]):
            return None
        features, mask = (prepared["inputs"][name] for name in ("input_features", "attention_mask"))
        rhythms = []
        for rows, length, around in zip(features, mask.sum(1).tolist(), prepared["around"], strict=True):
            before, after = (rows[:0] if one is None else one.to(rows) for one in around)
            rhythm = self._read_rhythm(torch.cat((before, rows[:length], after)))
            if rhythm is None:  # no rhythm encoder
                return None
            own = rhythm[0, len(before) : len(before) + length]
            rhythms.append(F.pad(own, (0, 0, 0, len(rows) - length)))
        return torch.stack(rhythms)

    @own_threads()
    def _read_rhythm(self, features: torch.Tensor) -> torch.Tensor | None:
        """Beat and bar of a song's features [frames, columns], [1, frames, 4]; those of the last song are remembered."""
        base = self.model.base_model
        if base.rhythm_encoder is None:
            return base.encode_rhythm(features[None])
        made_by: list[Any] = [(one.data_ptr(), one._version, one.dtype) for one in base.rhythm_encoder.parameters()]
        made_by.append(base.config.rhythm_tempo)
        if (
            self._last_rhythm is None
            or self._last_rhythm[0] != made_by
            or not torch.equal(self._last_rhythm[1], features)
        ):
            use_one_thread(self.model, 1)
            self._last_rhythm = made_by, features, base.encode_rhythm(features[None])
        return self._last_rhythm[2]

    def postprocess(self, results: dict[str, Any], floor: bool = True, clean: bool = True) -> Any:
        (dances,) = self._results(results, floor, clean)
        return dances

    def _results(self, results: dict[str, Any], floor: bool = True, clean: bool = True) -> Iterator[Any]:
        """For each song its dance, or a list of dances."""
        songs = len(results["metadata"])
        streams = [codes.to(self.device).chunk(songs) for codes in results["codes"]]
        counts = results["num_frames"].chunk(songs)
        for index, (position, heading, (begins, ends), _, _, (held, loop), metadata, began, song) in enumerate(
            zip(*(results[name] for name in _PER_SONG), strict=True)
        ):
            codes = tuple(stream[index] for stream in streams)
            complete = int(counts[index].min()) >= results["inputs"]["num_frames"][index]  # not stopped before
            motions = self.processor.post_process_motion(
                codes,
                self.tokenizer,
                counts[index],
                floor,
                position,
                clean,
                begins,
                ends and complete,
                heading,
                [(first, poses) for first, poses in held if first + len(poses) <= int(counts[index].min())],
                loop and complete,
            )
            metadata = {**metadata, "compute_seconds": round(time.perf_counter() - began, 3)}
            fps, genre = self.tokenizer.config.fps, metadata["genre"]
            dances = []
            for number, motion in enumerate(motions):
                used = -(-len(motion["poses"]) // self.tokenizer.config.frames_per_code)
                notes = {**metadata, **motion["metadata"], "index": number}
                if results["likelihoods"] is not None:
                    notes["log_likelihood"] = round(float(results["likelihoods"][index][number]), 4)
                notes["codes"] = {
                    part: stream[number, :used].tolist() for part, stream in zip(BODY_PARTS, codes, strict=True)
                }
                dances.append(self._dance({**motion, "fps": fps, "genre": genre, "metadata": notes}, song))
            yield dances if len(dances) > 1 else dances[0]

    def _dance(self, dance: dict[str, Any], song: Any) -> Any:
        """The form in which a dance is returned; `song` is the song it was made to. Subclasses override it."""
        return dance


# Changes that nobody asked to be at bars, as those of a section in words: at bars where there is room.
_NEAR_BAR = "near a bar"
# What `preprocess` gives beside the inputs, in lists with an entry per song; whole: whether the song begins and ends with the dance;
# around: features of the song before and after an excerpt, each None where there are none; plans: the plan and where its changes are;
# held: first frames and poses of what is held, and whether the dance is a loop.
_PER_SONG = ("positions", "headings", "whole", "around", "plans", "held", "metadata", "began", "songs")
_KNOWN = ("known_codes", "known_mask")
_CODES = ("upper_codes", "lower_codes", *_KNOWN)  # inputs that are codes, not music
# Options of the steps of the pipeline; all others are for generate().
_PREPROCESS = {
    "genre",
    "plan",
    "changes",
    "prompt",
    "attributes",
    "start",
    "duration",
    "start_motion",
    "hold",
    "loop",
    "sampling_rate",
}
_POSTPROCESS = {"floor", "clean"}
_GENERATE = {"seed", "generator", "num", "candidates", "mode", "progress", "backend"}
_GENERATE |= {"logits_processor", "stopping_criteria", "streamer"}
_OPTIONS = _PREPROCESS | _POSTPROCESS | _GENERATE
_MODEL_INPUTS = {"input_features", "genre_ids", "attention_mask", "num_frames", "rhythm", "upper_codes", "lower_codes"}
_NO_OUTPUT = {"output_scores", "output_logits", "return_dict_in_generate"}


def _is_iterator(songs: Any) -> bool:
    return isinstance(songs, collections.abc.Iterator) and not hasattr(songs, "read")


def _several(song: Any) -> bool:
    """Whether `song` is several songs: a list, a data set or a column of one, a generator."""
    if isinstance(song, list | tuple):
        return as_songs(song)[1] or len(song) == 0
    if isinstance(song, str | bytes | bytearray | memoryview | Mapping) or hasattr(song, "read"):
        return False
    return isinstance(song, Sequence | Dataset) or _is_iterator(song)


def _prefetch(function: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """`map` in a number of threads, at most as many items ahead."""
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


def _collate(songs: list[dict[str, Any]]) -> dict[str, Any]:
    """The outputs of `preprocess` for several songs as one batch, padded to the longest; the mask is 0 on the padding."""
    if len(songs) == 1:
        return songs[0]
    inputs = [song["inputs"] for song in songs]
    longest = max(one["input_features"].shape[1] for one in inputs)
    missing = [longest - one["input_features"].shape[1] for one in inputs]
    padded = list(zip(inputs, missing, strict=True))
    batch: dict[str, Any] = {
        "input_features": torch.cat([F.pad(one["input_features"], (0, 0, 0, count)) for one, count in padded]),
        "attention_mask": torch.cat([F.pad(one["attention_mask"], (0, count)) for one, count in padded]),
        "num_frames": [count for one in inputs for count in one["num_frames"]],
    }
    if any("known_codes" in one for one in inputs):  # those of an option of the whole call: of each song
        most = longest // (inputs[0]["input_features"].shape[1] // inputs[0]["known_codes"].shape[2])
        for name in _KNOWN:
            batch[name] = torch.cat([F.pad(one[name], (0, most - one[name].shape[2])) for one in inputs])
    if any("attributes" in one for one in inputs):  # asked of the whole call: of each song
        most = max(one["attributes"].shape[1] for one in inputs)
        rows = [
            F.pad(one["attributes"], (0, 0, 0, most - one["attributes"].shape[1]), value=torch.nan) for one in inputs
        ]
        batch["attributes"] = torch.cat(rows)
    for name in inputs[0].keys() - batch.keys():
        batch[name] = torch.cat([one[name] for one in inputs])
    return {"inputs": batch, **{name: [entry for song in songs for entry in song[name]] for name in _PER_SONG}}
