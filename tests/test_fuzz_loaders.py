"""A short fuzz of all loaders; `python tests/fuzz_loaders.py --cases 20000` is the long one."""

import fuzz_loaders
import pytest


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    run = fuzz_loaders.Fuzz(tmp_path_factory.mktemp("fuzz"), seed=1)
    yield run
    run.end()


@pytest.mark.filterwarnings("ignore::UserWarning")  # what motion files leave open is a warning
@pytest.mark.parametrize("loader", fuzz_loaders.LOADERS)
def test_damaged_files_are_refused_by_name(fuzz, loader):
    cases = 12 if loader == "model" else 25  # a whole model dances in each
    counts, faults, _ = fuzz.cases(loader, cases)
    assert not faults, faults[0]
    assert counts["refused"] and counts["accepted"] + counts["refused"] == cases
