"""A short run of the fuzz of all loaders; `python tests/fuzz_loaders.py --cases 20000` is the long one."""

import fuzz_loaders
import pytest


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    run = fuzz_loaders.Fuzz(tmp_path_factory.mktemp("fuzz"), seed=1)
    yield run
    run.end()


@pytest.mark.filterwarnings("ignore::UserWarning")  # what motion files do not tell is told
@pytest.mark.parametrize("door", fuzz_loaders.DOORS)
def test_damaged_files_are_refused_by_name(fuzz, door):
    cases = 12 if door == "model" else 25  # a whole model dances in each
    counts, faults, _ = fuzz.cases(door, cases)
    assert not faults, faults[0]
    assert counts["refused"] and counts["accepted"] + counts["refused"] == cases


def test_faults_are_seen(tmp_path, monkeypatch):
    """The fuzz itself: a crash, a hang, too much memory, another exception and a nameless message are told apart."""
    script = tmp_path / "bad_doors.py"
    script.write_text(BAD_DOORS)
    monkeypatch.setattr(fuzz_loaders, "__file__", str(script))
    monkeypatch.setattr(fuzz_loaders, "SECONDS", 4.0)
    monkeypatch.setattr(fuzz_loaders, "BYTES", 200 << 20)
    (tmp_path / "files" / "bad").mkdir(parents=True)
    (tmp_path / "files" / "bad" / "a.txt").write_text("x")
    run = fuzz_loaders.Fuzz(tmp_path / "files", seed=0)
    kinds = [run.case("bad", number)["kind"] for number in range(6)]
    run.end()
    assert kinds == ["crash", "low-level", "nameless", "refused", "memory", "hang"]


BAD_DOORS = f"""
import os, sys, time
sys.path.insert(0, {str(fuzz_loaders.HERE)!r})
import fuzz_loaders
from megadance_hf.modeling.errors_megadance import FileError

class Bad(fuzz_loaders.Door):
    def damage(self, path, chance):
        return path
    def open(self, path):
        if path.name.startswith("first-"):
            return
        number = int(path.stem.rpartition("-")[2])
        if number == 0:
            os.abort()
        if number == 1:
            raise KeyError(1)
        if number == 2:
            raise FileError("it is broken")
        if number == 3:
            raise FileError(f"{{path.name}} is broken")
        if number == 4:
            bytearray(b"x" * (250 << 20))
        if number == 5:
            time.sleep(60)

fuzz_loaders.DOORS["bad"] = Bad()
fuzz_loaders.main()
"""
