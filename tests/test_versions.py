"""The lower bounds of setup.py are versions that `tests/versions.py lowest` can install."""

import re

from versions import EXTRAS, declared, lower_bounds


def test_every_requirement_has_one_lower_bound():
    bounds, constants = lower_bounds(), declared()
    assert all(re.fullmatch(r"[\w-]+==\d[\w.]*\.\d+(\.\d+)*", line) for line in bounds), bounds
    names = [line.split("==")[0] for line in bounds]
    assert {"torch", "transformers", "accelerate", "smplx"} <= set(names) and len(names) == len(set(names))
    extras = [line for extra in EXTRAS["lowest"] for line in constants["EXTRAS"][extra]]
    assert set(bounds) == {line.replace(">=", "==") for line in [*constants["REQUIREMENTS"], *extras]}
