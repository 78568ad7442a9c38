"""Recipes: the settings of a training, from YAML and from `SECTION.NAME=VALUE` changes, checked before anything is done.

An unknown name and a value of the wrong type are errors of one line, with the file, the setting and the nearest known name: a
misspelt setting must not cost hours of training with its default.
"""

import difflib
import types
import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from inspect import get_annotations, signature
from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub.errors import StrictDataclassError

from megadance_hf.data.augmentation import MotionCorruption, MusicAugmentation
from megadance_hf.data.sampling import EpochSampler
from megadance_hf.data.segments import CodeSegments, MotionSegments, RhythmSegments
from megadance_hf.modeling.configuration_megadance import (
    FRAMES_PER_CODE,
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.errors_megadance import ModelError, reading, reason_of, short

from .config import TrainingConfig
from .hearing import HearingSettings
from .processes import print_once
from .tasks import GeneratorTask, TokenizerTask

Kind = Literal["tokenizer", "generator", "classifier"]
# Larger files are no recipes, and a megabyte of YAML can take minutes to parse.
_MOST_BYTES = 1 << 16
MOST_REPEATS = 1000


class RecipeError(ValueError):
    """A recipe cannot be used; the message is one line naming the file, the setting and the remedy."""


# --- the settings of a recipe --------------------------------------------------------------------------------------


def _arguments_of(target: Any, *given: str) -> dict[str, Any]:
    """Arguments of a class or function with their types, without those that are `given` by the script."""
    hints = typing.get_type_hints(target.__init__ if isinstance(target, type) else target)
    names = [name for name in signature(target).parameters if name not in given]
    return {name: hints.get(name, Any) for name in names}


def _of_config(config: type, *given: str) -> dict[str, Any]:
    """The settings of a configuration beyond those that every model of transformers has."""
    return {name: kind for name, kind in get_annotations(config).items() if name not in given}


@dataclass(frozen=True)
class DataSettings:
    """What is held back for evaluation where the data have no validation split, and how numbers are normalised.

    Attributes:
        hold_back: share of the songs, 0 to below 1; 0 trains on all of them, as the paper does, and evaluates nothing.
        statistics: means and standard deviations by column over all frames, with floors ("per_column"), or as the released loaders make
            them ("released"; see `Statistics.released`). The tokenizer's become the generator's only for music: use the same for both.
        genres: train on these genres only, in this order; None trains on all that the data name. Of the genres of known sources
            (`Source.genres`) those that the data lack are printed and left out; a name that neither has is an error. A tokenizer takes
            clips without a genre as well.
    """

    hold_back: float = 0.1
    statistics: Literal["per_column", "released"] = "per_column"
    genres: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.hold_back < 1:
            raise ValueError(f"hold_back={self.hold_back!r} is not possible: give a share from 0 to below 1")
        if self.genres is not None and (not self.genres or len(set(self.genres)) < len(self.genres)):
            raise ValueError(f"genres={list(self.genres)!r} is not possible: name at least one, each once")


@dataclass(frozen=True)
class ValidationSettings:
    """Windows that are cut out of held-out clips to measure by, by `window_starts`; without a `length` the clips are measured whole, or
    in segments as long as those of the training.

    Attributes:
        length, stride, drop_marked, until_muq: see `window_starts`; a stride of 0 is the length.
    """

    length: int = 0
    stride: int = 0
    drop_marked: bool = False
    until_muq: bool = False

    def __post_init__(self) -> None:
        for name in ("length", "stride"):
            value = getattr(self, name)
            if value < 0 or value % FRAMES_PER_CODE:
                raise ValueError(f"{name}={value!r} is not possible: give a multiple of {FRAMES_PER_CODE}, or 0")
        for name in ("stride", "drop_marked", "until_muq"):
            if getattr(self, name) and not self.length:
                raise ValueError(f"{name}={getattr(self, name)!r} is not possible: it is of windows; give a length")


@dataclass(frozen=True)
class GenerationSettings:
    """Defaults of the trained model's `generate`."""

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    mode: Literal["paper", "released", "stream"] = "paper"
    guidance_scale: float = 1.0
    attribute_guidance_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, good, remedy in (
            ("temperature", self.temperature > 0, "a number above 0"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("top_p", 0 < self.top_p <= 1, "a share above 0, to 1"),
            ("guidance_scale", self.guidance_scale >= 0, "0 or more, 1 for none"),
            ("attribute_guidance_scale", self.attribute_guidance_scale >= 0, "0 or more, 1 for none"),
        ):
            if not good:
                raise ValueError(f"{name}={getattr(self, name)!r} is not possible: give {remedy}")


_NO_SETTINGS = ("clips", "encoded", "genres", "statistics", "augmentation", "corruption", "seed", "self")
_TRAINING = typing.get_type_hints(TrainingConfig)
SECTIONS: dict[str, dict[str, Any]] = {
    "tokenizer": {
        "model": _of_config(MegaDanceTokenizerConfig, "fps"),
        "data": _arguments_of(DataSettings),
        "windows": _arguments_of(MotionSegments, *_NO_SETTINGS),
        "validation": _arguments_of(ValidationSettings),
        "corruption": _arguments_of(MotionCorruption),
        "task": _arguments_of(TokenizerTask, "clips"),
        "training": _TRAINING,
    },
    "generator": {
        "model": _of_config(MegaDanceConfig, "fps", "frames_per_code", "active_genres", "use_cache"),
        "data": _arguments_of(DataSettings),
        "rhythm": {
            "composed_songs": int,
            "repeats": Mapping[str, int],
            "windows": _arguments_of(RhythmSegments, *_NO_SETTINGS, "random"),
            "augmentation": _arguments_of(MusicAugmentation),
            "training": _TRAINING,
        },
        "hearing": _arguments_of(HearingSettings),
        "windows": {
            **_arguments_of(CodeSegments, *_NO_SETTINGS),
            "stretches": Sequence[float],
            "mirror": bool,
            "isolated": bool,
            "mask_noise": bool,
        },
        "validation": _arguments_of(ValidationSettings),
        "sampler": _arguments_of(EpochSampler, "segments", "seed"),
        "augmentation": _arguments_of(MusicAugmentation),
        "corruption": _arguments_of(MotionCorruption),
        "task": _arguments_of(GeneratorTask, "segments", "batch_size"),
        "training": _TRAINING,
        "generation": _arguments_of(GenerationSettings),
    },
    "classifier": {
        "model": _of_config(MegaDanceClassifierConfig, "fps"),
        "data": _arguments_of(DataSettings),
        # the classifier knows no velocities, which isolated windows are about, and its labels are of whole windows
        "windows": _arguments_of(MotionSegments, *_NO_SETTINGS, "isolated", "mask_noise"),
        "validation": _arguments_of(ValidationSettings),
        "training": _TRAINING,
    },
}


# --- reading -------------------------------------------------------------------------------------------------------


@dataclass
class Recipe:
    """Settings by section, all of them known and of the right type.

    Attributes:
        kind: which model is trained.
        source: the file, for messages.
        settings: by section.
        changed: the settings that --set has changed, as "section.name".
    """

    kind: Kind
    source: str
    settings: dict[str, Any]
    changed: list[str] = field(default_factory=list)

    def __contains__(self, section: str) -> bool:
        return self._find(section) is not None

    def _find(self, section: str) -> Any:
        found: Any = self.settings
        for name in section.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def section(self, section: str) -> dict[str, Any]:
        """A copy of a section ("windows", "rhythm.windows"); empty where the recipe does not have it."""
        return dict(self._find(section) or {})

    def training(self, section: str = "training") -> TrainingConfig:
        """The `TrainingConfig` of a section."""
        with self.using(section):
            return TrainingConfig.from_dict(self.section(section))

    @contextmanager
    def using(self, section: str) -> Iterator[None]:
        """Within this block an impossible value is an error of this section."""
        try:
            yield
        except RecipeError:
            raise
        except (ValueError, TypeError, StrictDataclassError) as error:
            # transformers' validation wraps our error, which is the one to show
            reason = reason_of(error.__cause__ or error).removeprefix(f"{section}.")
            raise RecipeError(f"{self.source}: {section}.{reason}") from error

    def repeats(self, section: str, genres: Sequence[str]) -> dict[str, int]:
        """`repeats` of a section for the genres of the data; the names in it that are not among these are printed.

        Raises:
            RecipeError: --set names a genre that the data lack, or a number is out of range.
        """
        repeats = self.section(section).get("repeats") or {}
        for name, times in repeats.items():
            setting = f"{section}.repeats.{name}"
            if not 0 <= times <= MOST_REPEATS:
                raise RecipeError(f"{self.source}: {setting}={times} is not possible: give 0 to {MOST_REPEATS}")
            if name not in genres and setting in self.changed:
                near = _nearest(name, genres)
                raise RecipeError(f"--set {setting}: no such genre in the data{near}: {', '.join(genres)}")
        if unused := [name for name in repeats if name not in genres]:
            print_once(f"{section}.repeats: the data have no {', '.join(unused)}; that changes nothing")
        return {name: times for name, times in repeats.items() if name in genres}


def read_recipe(file: str | Path, kind: Kind, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe's file and apply changes, each "SECTION.NAME=VALUE" with a value in YAML.

    Raises:
        RecipeError: the file cannot be read, or a setting is unknown or of the wrong type.
    """
    source = str(file)
    with reading(source, "give a recipe such as examples/configs/small_generator.yaml", RecipeError):
        if Path(file).is_dir():
            raise RecipeError(f"{source} is a folder: give the recipe's file in it")
        if Path(file).stat().st_size > _MOST_BYTES:
            raise RecipeError(f"{source} is no recipe: it has more than {_MOST_BYTES >> 10} kB")
        with open(file, encoding="utf-8-sig") as stream:
            settings = yaml.load(stream, _Loader)
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise RecipeError(f"{source} is no recipe: give sections with settings ({', '.join(SECTIONS[kind])})")
    recipe = Recipe(kind, source, settings)
    _check(settings, SECTIONS[kind], source, kind, ())
    for change in changes:
        _apply(recipe, change)
    return recipe


class _Loader(yaml.SafeLoader):
    """YAML without aliases, and without names given twice, of which the last would win silently."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise RecipeError(f"{self.name}: aliases (*name) are not read here: write the values out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name, times in Counter(names).items():
            if times > 1:
                raise RecipeError(f"{self.name}: {name} stands twice in one section: keep one of them")
        return super().construct_mapping(node, deep)


def _apply(recipe: Recipe, change: str) -> None:
    setting, equals, text = change.partition("=")
    path = tuple(name.strip() for name in setting.split("."))
    if not equals or not all(path):
        raise RecipeError(
            f"--set {change}: give SECTION.NAME=VALUE with a section of {', '.join(SECTIONS[recipe.kind])}"
        )
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"--set {change}: {text!r} is no value of YAML ({reason_of(error)})") from error
    nested: Any = value
    for name in reversed(path[1:]):
        nested = {name: nested}
    _check(part := {path[0]: nested}, SECTIONS[recipe.kind], f"--set {change}", recipe.kind, ())
    target, source = recipe.settings, part
    for name in path[:-1]:
        if not isinstance(target.get(name), dict):
            target[name] = {}
        target, source = target[name], source[name]
    target[path[-1]] = source[path[-1]]
    recipe.changed.append(".".join(path))


# --- checking ------------------------------------------------------------------------------------------------------


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name), [str(one) for one in known], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _check(values: dict[Any, Any], known: Mapping[str, Any], source: str, kind: str, path: tuple[str, ...]) -> None:
    """Check names and types of a section and of those in it; numbers that YAML reads as text (1e-3) become numbers."""
    for name, value in values.items():
        setting = ".".join((*path, str(name)))
        if name not in known:
            every = list(_all_settings(SECTIONS[kind]))
            same = [one for one in every if one.rpartition(".")[2] == str(name)]
            near = _nearest(name, list(known)) or (f"; did you mean {same[-1]}?" if same else _nearest(setting, every))
            raise RecipeError(
                f"{source}: {setting} is not a setting of a {kind}'s recipe{near} (here it has {', '.join(known)})"
            )
        if isinstance(known[name], dict):
            if value is None:
                values[name] = value = {}
            if not isinstance(value, dict):
                raise RecipeError(
                    f"{source}: {setting} is a section with settings ({', '.join(known[name])}), not {value!r}"
                )
            _check(value, known[name], source, kind, (*path, str(name)))
            continue
        fits, values[name] = _fit(value, known[name])
        if not fits:
            shown = "null" if value is None else short(repr(value), 80)
            raise RecipeError(f"{source}: {setting}={shown} is not possible: give {_described(known[name])}")


def _all_settings(known: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, kind in known.items():
        yield path + name
        if isinstance(kind, dict):
            yield from _all_settings(kind, f"{path}{name}.")


def _fit(value: Any, kind: Any) -> tuple[bool, Any]:
    """Whether a value is of a type, given as annotations give it, and the value converted to it."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True, value
    if origin in (typing.Union, types.UnionType):
        for part in parts:
            fits, made = _fit(value, part)
            if fits:
                return True, made
        return False, value
    if origin is Literal:
        # YAML reads a bare `no` as false
        made = "no" if value is False and "no" in parts else value
        return isinstance(made, str) and made in parts, made
    if origin in (list, tuple) or (isinstance(origin, type) and issubclass(origin, Sequence)) or kind is list:
        if not isinstance(value, list):
            return False, value
        if origin is tuple and parts and parts[-1] is not Ellipsis:
            if len(value) != len(parts):
                return False, value
            kinds = list(parts)
        else:
            kinds = [parts[0] if parts else Any] * len(value)
        fitted = [_fit(one, kind) for one, kind in zip(value, kinds, strict=True)]
        return all(fits for fits, _ in fitted), [made for _, made in fitted]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            return value is None, {} if value is None else value
        fitted = {name: (_fit(name, parts[0]), _fit(one, parts[1])) for name, one in value.items()}
        return all(a[0] and b[0] for a, b in fitted.values()), {a[1]: b[1] for a, b in fitted.values()}
    if kind is float:
        if isinstance(value, str):  # YAML reads 1e-3 as text
            with suppress(ValueError):
                value = float(value)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        return good and abs(value) < float("inf"), value
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if kind is type(None):
        return value is None, value
    return isinstance(value, kind), value


def _described(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_described(part) for part in parts))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"{len(parts)} numbers in brackets"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"names with {_described(parts[1])} each"
    if origin is not None or kind is list:
        return f"a list in brackets, of {_described(parts[0])} each" if parts else "a list in brackets"
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a name",
        type(None): "null",
        Any: "a value",
    }
    return words.get(kind, str(kind))


# --- what is made from it ------------------------------------------------------------------------------------------


def generator_config(
    recipe: Recipe, tokenizer: MegaDanceTokenizerConfig, source: str, genres: Sequence[str]
) -> MegaDanceConfig:
    """The generator's configuration from recipe, tokenizer and data, which must fit one another.

    Args:
        tokenizer: configuration of the trained tokenizer.
        source: where it is from, for messages.
        genres: of the data.

    Raises:
        ModelError: a code of the tokenizer has another number of frames, or the recipe another number of codes or levels.
    """
    settings = recipe.section("model")
    if tokenizer.frames_per_code != FRAMES_PER_CODE:
        raise ModelError(
            f"--tokenizer {source}: its codes last {tokenizer.frames_per_code} frames, a generator's {FRAMES_PER_CODE}: train "
            "one with model.num_downsamples=3"
        )
    if settings.get("codebook_size", tokenizer.codebook_size) != tokenizer.codebook_size:
        raise ModelError(
            f"model.codebook_size={settings['codebook_size']}, but --tokenizer {source} has {tokenizer.codebook_size} codes: "
            "leave it out, the tokenizer's number is taken"
        )
    levels = list(tokenizer.levels)
    if settings.get("levels") not in (None, levels):
        raise ModelError(
            f"model.levels={settings['levels']}, but --tokenizer {source} has {levels}: leave them out, the tokenizer's are taken"
        )
    given: dict[str, Any] = {
        "codebook_size": tokenizer.codebook_size,
        "frames_per_code": FRAMES_PER_CODE,
        "id2label": dict(enumerate(genres)),
    }
    if settings.get("code_head") == "factorised":
        given["levels"] = levels
    with recipe.using("model"):
        return MegaDanceConfig(**settings | given)
