"""Figures, the body on one beat, and the moves of each genre."""

import numpy as np
import pytest

from megadance_hf.synthetic.figures import ACCENTS, GENRES, Figure, figures_of


def test_a_mirrored_figure_is_the_mirror_image():
    figure = Figure(sway=0.1, tilt=0.2, left_foot=(0.3, 0.1), lift=(0.1, 0.0), walk=(0.2, 0.1), heading=0.3)
    twice = figure.mirrored().mirrored()
    assert twice == figure and figure.mirrored().right_foot == (-0.3, 0.1) and figure.mirrored().lift == (0.0, 0.1)


@pytest.mark.parametrize("genre", GENRES.values(), ids=GENRES)
def test_bars_are_danced_with_the_moves_of_the_genre(genre):
    figures = figures_of(genre, 8, 4, energy=0.5, rng=np.random.default_rng(0))
    size = 0.55 + 0.55 * 0.5
    moves = [[move(beat, 4, size * ACCENTS[beat > 0]) for beat in range(4)] for move in genre.moves]
    for bar in (figures[:4], figures[4:]):
        mirrored = [figure.mirrored() for figure in bar]
        assert any(all(f in (a, b) for f, a, b in zip(move, bar, mirrored, strict=True)) for move in moves)
