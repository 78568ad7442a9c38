"""What a Hugging Face Inference Endpoint runs: a song comes in, a dance goes out. Copied into a model's repository.

    POST {"inputs": "<a sound file, base64>",
          "parameters": {"genre": "waltz", "format": "glb", "seed": 0, "start": 0, "duration": 20}}
    ->   {"format": "glb", "content_type": "model/gltf-binary", "data": "<the file, base64>",
          "genre": "waltz", "seed": 0, "fps": 30, "frames": 600}

or the sound file itself as the body (`Content-Type: audio/mpeg`), without parameters. `format` is npz (SMPL poses), glb (an
animated figure) or mp4 (a video with the song); the last two need megadance-hf in the repository's requirements.txt.

Limits, which the Endpoint's environment can change: `MEGADANCE_MAX_SECONDS` (60) of music danced to, `MEGADANCE_MAX_MEGABYTES`
(20) of the sound file.
"""

import base64
import binascii
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TASK = "music-to-dance"
CONTENT_TYPES = {"npz": "application/octet-stream", "glb": "model/gltf-binary", "mp4": "video/mp4"}
PARAMETERS = {"genre", "format", "seed", "start", "duration", "temperature", "top_k", "mode"}


class RequestError(ValueError):
    """A request cannot be answered; the message is one line for whoever sent it."""


class EndpointHandler:
    """Loads the model once and answers requests; the names are those that Inference Endpoints look for."""

    def __init__(self, path: str = "") -> None:
        """`path`: folder of the repository's files."""
        from transformers import pipeline

        self.max_seconds = float(os.environ.get("MEGADANCE_MAX_SECONDS", 60))
        self.max_bytes = round(float(os.environ.get("MEGADANCE_MAX_MEGABYTES", 20)) * 1e6)
        self.pipe = pipeline(TASK, model=path, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Answer a request, see the top of this file.

        Raises:
            RequestError: what is wrong with the request itself; the model's own errors about song and genre are ValueErrors
                of one line as well.
        """
        song = self._song(data.get("inputs"))
        options = dict(data.get("parameters") or {})
        if unknown := sorted(options.keys() - PARAMETERS):
            raise RequestError(f"parameters has {unknown[0]!r}: give some of {', '.join(sorted(PARAMETERS))}")
        kind = options.pop("format", "npz")
        if kind not in CONTENT_TYPES:
            raise RequestError(f"format={kind!r}: give one of {', '.join(CONTENT_TYPES)}")
        motion_class = None if kind == "npz" else _motion_class(kind)
        for name in ("start", "duration", "seed", "temperature", "top_k"):
            value = options.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise RequestError(f"{name}={value!r}: give a number")
        options["duration"] = self._duration(song, options.get("start") or 0.0, options.get("duration"))
        dance = self.pipe(song, **options)
        if not isinstance(dance, dict):  # where megadance-hf is installed and its own pipeline answered: a Motion
            dance = {name: getattr(dance, name) for name in ("poses", "translation", "fps", "genre", "metadata")}
        made = _npz(dance) if motion_class is None else _file(motion_class(**dance), kind, song, options)
        return {
            "format": kind,
            "content_type": CONTENT_TYPES[kind],
            "data": base64.b64encode(made).decode("ascii"),
            "genre": dance["genre"],
            "seed": dance["metadata"]["seed"],
            "fps": dance["fps"],
            "frames": len(dance["poses"]),
        }

    def _song(self, inputs: Any) -> bytes:
        if isinstance(inputs, str):
            if len(inputs) > self.max_bytes * 4 / 3 + 4:  # before it is decoded
                raise RequestError(f"inputs is longer than {self.max_bytes / 1e6:g} MB: send a smaller file")
            try:
                inputs = base64.b64decode(inputs, validate=True)
            except (binascii.Error, ValueError):
                raise RequestError("inputs is not base64: send the bytes of a sound file, encoded so") from None
        if not isinstance(inputs, bytes) or not inputs:
            raise RequestError("inputs is missing: send the bytes of a sound file (wav, mp3, m4a, ogg, flac, ...)")
        if len(inputs) > self.max_bytes:
            raise RequestError(
                f"inputs has {len(inputs) / 1e6:.1f} MB, more than {self.max_bytes / 1e6:g}: send a smaller file"
            )
        return inputs

    def _duration(self, song: bytes, start: float, duration: float | None) -> float:
        """Seconds to dance; never more than the limit, whatever the file says about its own length."""
        if duration is None:
            duration = max(self.pipe.processor.feature_extractor.seconds(song) - start, 0.001)
        if duration > self.max_seconds:
            raise RequestError(
                f"{duration:.1f} s are to be danced to, more than {self.max_seconds:g}: give a duration up to that"
            )
        return duration


def _motion_class(kind: str) -> type:
    try:
        from megadance_hf.motion import Motion
    except ImportError:
        raise RequestError(
            f"format={kind!r} needs megadance-hf, which is not installed here: name it in requirements.txt, or ask for npz"
        ) from None
    return Motion


def _npz(dance: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(
        file,
        poses=dance["poses"].reshape(len(dance["poses"]), -1),
        trans=dance["translation"],
        fps=np.float64(dance["fps"]),
        mocap_framerate=np.float64(dance["fps"]),
        genre=np.array(dance["genre"]),
        metadata=np.array("{}"),  # by these keys Motion.load knows it for ours: Y up, the pelvis, the floor at 0
    )
    return file.getvalue()


def _file(motion: Any, kind: str, song: bytes, options: dict[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"dance.{kind}"
        music = {"music": song, "music_start": options.get("start") or 0.0} if kind == "mp4" else {}
        motion.save(path, **music)
        return path.read_bytes()
