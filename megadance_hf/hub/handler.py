"""What a Hugging Face Inference Endpoint runs: a song comes in, a dance goes out. Copied into a model's repository.

    POST {"inputs": "<a sound file, base64>",
          "parameters": {"genre": "waltz", "prompt": "slow and wide, more turns", "format": "glb", "seed": 0, "start": 0, "duration": 20}}
    ->   {"format": "glb", "content_type": "model/gltf-binary", "data": "<the file, base64>",
          "genre": "waltz", "seed": 0, "fps": 30, "frames": 600}

(without a genre also "heard", the probabilities of all genres where the model hears them, and "assumed", which says so in words; with a
prompt also "prompt", what was understood and what was not, and "attributes")
or the sound file itself as the body (`Content-Type: audio/mpeg`), without parameters. `PARAMETERS` lists all parameters and their
ranges. The formats other than npz need megadance-hf in the repository's requirements.txt. The song must be in the request:
addresses and paths are not followed.

The Endpoint's environment can change two limits: `MEGADANCE_MAX_SECONDS` (60) of music to dance to, and `MEGADANCE_MAX_MEGABYTES`
(20) of the sound file.
"""

import base64
import binascii
import io
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

TASK = "music-to-dance"
CONTENT_TYPES = {"npz": "application/octet-stream", "glb": "model/gltf-binary", "mp4": "video/mp4"}
MAX_SECONDS, MAX_MEGABYTES = 60.0, 20.0


class RequestError(ValueError):
    """A request cannot be answered; the message is one line for its sender."""


class Parameter(NamedTuple):
    """A parameter of a request, and its allowed values.

    Attributes:
        meaning: what it does, in words.
        kind: `str`, `int` (a whole number), `float` (any number), or `dict`, an object of names with numbers in the range.
        default: its value when it is missing or null, in words.
        choices: allowed texts; any text when empty.
        low, high: range of a number, including `low` unless `above`.
    """

    meaning: str
    kind: type
    default: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = math.inf
    above: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        if self.kind is str:
            return f"one of {', '.join(self.choices)}" if self.choices else "a text"
        if self.kind is dict:
            return f"an object of names with numbers from {self.low:g} to {self.high:g}"
        kind = "a whole number" if self.kind is int else "a number"
        return (
            f"{kind} {'above' if self.above else 'from'} {self.low:g}{', up' if self.above else ''} to {self.high:.16g}"
        )

    def read(self, name: str, value: Any) -> Any:
        """The value, as a `str`, `int` or `float` of Python.

        Raises:
            RequestError: it has another type, or is out of range.
        """
        if self.kind is str:
            if isinstance(value, str) and (not self.choices or value in self.choices):
                return value
        elif self.kind is dict:
            if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
                numbers = Parameter(self.meaning, float, self.default, (), self.low, self.high)
                return {key: numbers.read(f"{name}[{key}]", number) for key, number in value.items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            inside = self.low < value if self.above else self.low <= value  # NaN is in no range
            if inside and value <= self.high and (self.kind is float or value == int(value)):
                return self.kind(value)
        raise RequestError(f"parameters: {name}={_short(value)}: give {self.allowed}")


def _short(value: Any) -> str:
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else shown[:60] + " ..."


_NOTES = ("heard", "assumed", "prompt", "attributes")  # of the dance, where it has them

# Both the checks of a request and the table in the model's card come from here.
PARAMETERS = {
    "genre": Parameter("what is danced", str, "the one heard in the song, or the model's first"),
    "prompt": Parameter("what the dance is to be like, in words", str, "nothing is asked"),
    "attributes": Parameter("the same as numbers, 0.5 is usual", dict, "nothing is asked", high=1),
    "format": Parameter("of the answer", str, "npz", tuple(CONTENT_TYPES)),
    "seed": Parameter("fixes the dance", int, "drawn, and told in the answer", high=2**53),
    "start": Parameter("second of the song to begin at", float, "0", high=86400),
    "duration": Parameter("seconds to dance", float, "to the end of the song", high=MAX_SECONDS, above=True),
    "temperature": Parameter("below 1 safer, above 1 more surprising", float, "the model's", high=100, above=True),
    "top_k": Parameter("choose among so many likeliest steps only", int, "the model's", high=1_000_000),
    "mode": Parameter("how past and music are windowed", str, "the model's", ("released", "paper", "stream")),
}


def parameter_table(genres: tuple[str, ...] = ()) -> str:
    """`PARAMETERS` as a table of Markdown."""
    lines = ["| parameter | | may be | when left out |", "|---|---|---|---|"]
    for name, parameter in _with_genres(genres).items():
        lines.append(f"| `{name}` | {parameter.meaning} | {parameter.allowed} | {parameter.default} |")
    return "\n".join(lines)


def _with_genres(genres: tuple[str, ...], seconds: float = MAX_SECONDS) -> dict[str, Parameter]:
    known = {"genre": {"choices": (*genres, "auto") if genres else ()}, "duration": {"high": seconds}}
    return {name: parameter._replace(**known.get(name, {})) for name, parameter in PARAMETERS.items()}


class EndpointHandler:
    """Loads the model once and answers requests; the names are those that Inference Endpoints look for."""

    def __init__(self, path: str = "") -> None:
        """`path`: folder of the repository's files.

        Raises:
            RequestError: a limit in the environment is not a number above 0.
        """
        from transformers import pipeline

        self.max_seconds = _limit("MEGADANCE_MAX_SECONDS", MAX_SECONDS)
        self.max_bytes = round(_limit("MEGADANCE_MAX_MEGABYTES", MAX_MEGABYTES) * 1e6)
        self.pipe = pipeline(TASK, model=path, trust_remote_code=True)
        self.parameters = _with_genres((), self.max_seconds)  # the pipeline checks the genre, in any spelling

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Answer a request, see the top of this file.

        Raises:
            RequestError: the request itself is wrong. The model's own errors about song and genre are ValueErrors of one line, too.
        """
        if not isinstance(data, Mapping):
            raise RequestError(
                f"the request is of type {type(data).__name__}: give an object with inputs and parameters"
            )
        options = self._options(data.get("parameters"))
        kind = options.pop("format", "npz")
        motion_class = None if kind == "npz" else _motion_class(kind)
        song = self._song(data.get("inputs"))
        options["duration"] = self._duration(song, options.get("start", 0.0), options.get("duration"))
        dance = self.pipe(song, **options)
        if not isinstance(dance, dict):  # a Motion, from the pipeline of an installed megadance-hf
            dance = {name: getattr(dance, name) for name in ("poses", "translation", "fps", "genre", "metadata")}
        content = _npz(dance) if motion_class is None else _file(motion_class(**dance), kind, song, options)
        return {
            "format": kind,
            "content_type": CONTENT_TYPES[kind],
            "data": base64.b64encode(content).decode("ascii"),
            "genre": dance["genre"],
            **{name: dance["metadata"][name] for name in _NOTES if name in dance["metadata"]},
            "seed": dance["metadata"]["seed"],
            "fps": dance["fps"],
            "frames": len(dance["poses"]),
        }

    def _options(self, parameters: Any) -> dict[str, Any]:
        """The parameters of a request, checked; null counts as missing."""
        if parameters is None:
            return {}
        if not isinstance(parameters, Mapping):
            raise RequestError(f"parameters is of type {type(parameters).__name__}: give an object of names and values")
        for name in parameters:
            if name not in self.parameters:
                raise RequestError(f"parameters has {_short(name)}: give some of {', '.join(sorted(self.parameters))}")
        return {
            name: self.parameters[name].read(name, value) for name, value in parameters.items() if value is not None
        }

    def _song(self, inputs: Any) -> bytes:
        if isinstance(inputs, str):
            if inputs[:8].lower().startswith(("http://", "https://", "file://", "hf://", "s3://")):
                raise RequestError(
                    "inputs is an address, which is not followed: send the bytes of the sound file, base64"
                )
            if inputs[:5].lower() == "data:":  # from a browser's FileReader
                inputs = inputs.partition(",")[2]
            if len(inputs) <= 2 * self.max_bytes + 100:
                inputs = "".join(inputs.split())  # some encoders break lines
            if len(inputs) > self.max_bytes * 4 / 3 + 4:  # before it is decoded
                raise RequestError(f"inputs is longer than {self.max_bytes / 1e6:g} MB: send a smaller file")
            try:
                inputs = base64.b64decode(inputs, validate=True)
            except (binascii.Error, ValueError):
                raise RequestError("inputs is not base64: send the bytes of a sound file, encoded so") from None
        if not isinstance(inputs, bytes | bytearray | memoryview) or not len(inputs):
            raise RequestError("inputs is missing: send the bytes of a sound file (wav, mp3, m4a, ogg, flac, ...)")
        inputs = bytes(inputs)
        if len(inputs) > self.max_bytes:
            raise RequestError(
                f"inputs has {len(inputs) / 1e6:.1f} MB, more than {self.max_bytes / 1e6:g}: send a smaller file"
            )
        return inputs

    def _duration(self, song: bytes, start: float, duration: float | None) -> float:
        """Seconds to dance: at most the limit, even if the file claims another length."""
        if duration is None:
            duration = max(self.pipe.processor.feature_extractor.seconds(song) - start, 0.001)
            if duration > self.max_seconds:
                raise RequestError(
                    f"{duration:.1f} s are to be danced to, more than {self.max_seconds:g}: give a duration up to that"
                )
        return duration


def _limit(name: str, default: float) -> float:
    try:
        value = float(os.environ.get(name) or default)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise RequestError(f"{name}={os.environ[name]!r} in the environment: give a number above 0")
    return value


def _motion_class(kind: str) -> type:
    try:
        from megadance_hf.motion.motion import Motion
    except ImportError:
        raise RequestError(
            f"format={kind!r} needs megadance-hf, which is not installed here: name it in requirements.txt, or ask for npz"
        ) from None
    return Motion


def _npz(dance: dict[str, Any]) -> bytes:
    file, fps = io.BytesIO(), np.float64(dance["fps"])
    motion = {"poses": dance["poses"].reshape(len(dance["poses"]), -1), "trans": dance["translation"]}
    # these keys tell Motion.load that it is ours: Y up, the pelvis, the floor at 0
    texts = {"genre": np.array(dance["genre"]), "metadata": np.array("{}")}
    np.savez_compressed(file, **motion, fps=fps, mocap_framerate=fps, **texts)
    return file.getvalue()


def _file(motion: Any, kind: str, song: bytes, options: dict[str, Any]) -> bytes:
    from megadance_hf.modeling.files_megadance import scratch

    with scratch() as folder:
        path = folder / f"dance.{kind}"
        music = {"music": song, "music_start": options.get("start", 0.0)} if kind == "mp4" else {}
        motion.save(path, **music)
        return path.read_bytes()
