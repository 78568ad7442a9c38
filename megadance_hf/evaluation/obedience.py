"""Whether dances are as they were asked to be: attributes asked for against attributes found.

Each attribute is asked for by itself, at the levels of `ASKED`, with the excerpts' own genres. What is found is measured in the dance and
told as a quantile of the same table, that of the genre's training data, so that it can be compared over genres.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from megadance_hf.modeling.attributes_megadance import ATTRIBUTES, attribute_signals, table_of, to_quantiles
from megadance_hf.modeling.configuration_megadance import MOTION_FPS, MegaDanceConfig

from .dances import Dance, Excerpt, Request, evenly, own_music

ASKED = (0.1, 0.3, 0.5, 0.7, 0.9)
EXCERPTS = 12  # most excerpts: each is danced to once for every attribute and level


def attribute_requests(excerpts: Sequence[Excerpt], config: MegaDanceConfig) -> dict[str, list[Request]]:
    """For each attribute of a model the requests for its levels, one after the other for each excerpt; none for a model without."""
    chosen = evenly(own_music(excerpts), EXCERPTS)
    return {
        name: [
            replace(request, attributes=tuple(level if own == name else None for own in config.attributes))
            for request in chosen
            for level in ASKED
        ]
        for name in config.attributes
    }


def found_quantile(dance: Dance, name: str, config: MegaDanceConfig) -> float:
    """The attribute `name` of a whole dance, as a quantile of its genre."""
    value = attribute_signals(torch.from_numpy(np.ascontiguousarray(dance.joints)), MOTION_FPS).mean(0)
    table = table_of(config.attribute_quantiles or {}, config.genres)[config.genres.index(dance.genre)]
    row = table[config.attributes.index(name)]
    return float(to_quantiles(value[list(ATTRIBUTES).index(name)], row))


def obedience(asked: Sequence[float], found: Sequence[float], genres: Sequence[str]) -> dict[str, Any]:
    """Rank correlation of an attribute asked and found over all dances and in each genre, and the mean found at each level."""
    asked, found, genres = np.array(asked), np.array(found), np.array(genres)

    def correlation(some: np.ndarray) -> float | None:
        varies = len(set(found[some])) > 1 and len(set(asked[some])) > 1
        return float(spearmanr(asked[some], found[some]).statistic) if varies else None

    return {
        "dances": len(asked),
        "rank_correlation": correlation(np.ones(len(asked), bool)),
        "by_genre": {str(genre): correlation(genres == genre) for genre in dict.fromkeys(genres)},
        "found": {str(level): float(found[asked == level].mean()) for level in sorted(set(asked.tolist()))},
    }
