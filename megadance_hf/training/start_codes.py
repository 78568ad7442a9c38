"""Start codes: the pairs of codes that a dance of a genre may begin with, from how its training clips begin."""

from collections.abc import Sequence

from megadance_hf.data.codes import EncodedClip
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE

# Most start codes kept for each genre.
START_CODES_PER_GENRE = 16


def start_codes(encoded: Sequence[EncodedClip], genres: Sequence[str]) -> dict[str, list[list[int]]]:
    """How the training clips of each genre begin, if not with noise: [upper, lower] pairs that a dance may begin with."""
    result: dict[str, list[list[int]]] = {genre: [] for genre in genres}
    for item in encoded:
        if item.noisy is not None and item.noisy[:FRAMES_PER_CODE].any():
            continue
        pair = [int(item.upper[0][0]), int(item.lower[0][0])]
        pairs = result[item.clip.genre]
        if item.stretch == 1.0 and item.start == 0 and pair not in pairs and len(pairs) < START_CODES_PER_GENRE:
            pairs.append(pair)
    return result
