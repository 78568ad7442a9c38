"""How the paper evaluates each data set (section 4.1): which excerpts of which songs, and the columns of its table."""

from dataclasses import dataclass, replace

from megadance_hf.data.clip import MIN_FRAMES
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE


class EvaluationError(ValueError):
    """Something asked for cannot be evaluated; the message is one line with the argument, its value and the remedy."""


@dataclass(frozen=True)
class Protocol:
    """How a data set is evaluated.

    Attributes:
        name, table: of the data set, and of the paper's table that compares methods on it.
        clip_frames: frames of an excerpt, at 30 per second; a shorter song is taken whole.
        songs: at most this many songs, spread evenly over the split.
        columns: of that table.
        clip_stride: frames between the starts of a song's excerpts; None takes one, from the song's beginning, as section 4.1
            reads. The released code takes excerpts of 1024 frames every 512.
    """

    name: str
    table: str
    clip_frames: int
    songs: int
    columns: tuple[str, ...]
    clip_stride: int | None = None


PROTOCOLS = {
    "finedance": Protocol("finedance", "1", 1024, 20, ("FID_k", "FID_g", "FID_s", "DIV_k", "DIV_g", "DIV_s", "BAS")),
    # 1200 frames at 60 per second in the paper
    "aistpp": Protocol("aistpp", "2", 600, 40, ("FID_k", "FID_g", "DIV_g", "DIV_s", "BAS")),
}


def find_protocol(
    protocol: str | Protocol, clip_frames: int | None = None, clip_stride: int | None = None, songs: int | None = None
) -> Protocol:
    """A protocol by its name or as it is, with the other arguments instead of its own where they are not None.

    Raises:
        EvaluationError: no such protocol, or numbers that are impossible.
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise EvaluationError(f"protocol={protocol!r} is none of {', '.join(PROTOCOLS)}")
        protocol = PROTOCOLS[protocol]
    changes = {"clip_frames": clip_frames, "clip_stride": clip_stride, "songs": songs}
    protocol = replace(protocol, **{name: value for name, value in changes.items() if value is not None})
    if protocol.clip_frames < MIN_FRAMES or protocol.clip_frames % FRAMES_PER_CODE:
        raise EvaluationError(
            f"clip_frames={protocol.clip_frames} must be a multiple of {FRAMES_PER_CODE}, {MIN_FRAMES} or more"
        )
    for name in ("clip_stride", "songs"):
        value = getattr(protocol, name)
        if value is not None and value < 1:
            raise EvaluationError(f"{name}={value} must be 1 or more")
    return protocol
