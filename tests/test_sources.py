"""Sources of `megadance prepare`: ours, and those that other packages register."""

import inspect
import os
import subprocess
import sys
import typing
from configparser import ConfigParser

import pytest

from megadance_hf.cli import command
from megadance_hf.data.preparation import prepare_clips
from megadance_hf.data.prepared import read_info, read_prepared
from megadance_hf.data.sources import GROUP, OWN, Option, SourceError, find_sources

DECLARATION = """
from megadance_hf.data.sources import Option, Source

TANGO = Source(
    "tango, 100 % captured\\n in my kitchen",
    prepare="tango_dances.tango:prepare",
    options=(
        Option("couple", "whose dances", choices=("leader", "follower"), default="leader"),
        Option("slow_down", "factor", kind=float, minimum=1, default=1.0),
        Option("upside_down", "for fun", kind=bool, default=False),
    ),
)
"""
MODULE = """
import numpy as np

from megadance_hf.data import Card, Clip, DataError, RawClip, prepare_clips

CARD = Card(title="Tango", description="From my kitchen.", licence="All mine.", licence_id="cc0-1.0")


def make(raw):
    poses = np.load(raw.files[0])
    return Clip(raw.id, poses, np.zeros((len(poses), 3)), genre="tango", split=raw.split, source=raw.record["couple"])


def prepare(raw, out, couple, slow_down, upside_down, jumps, num_proc):
    from pathlib import Path

    files = sorted(Path(raw).glob("*.npy"))
    if not files:
        raise DataError(f"raw={raw!r} has no .npy: give the folder of the kitchen")
    assert (slow_down, upside_down) == (1.5, True)
    raws = [RawClip(file.stem, "train", (file,), {"couple": couple}) for file in files]
    return prepare_clips(raws, make, out, card=CARD, genres=["tango"], jumps=jumps, num_proc=num_proc, progress=False)
"""


def install(folder, package, entries, **modules):
    """A package with its metadata, as pip would leave it in site-packages."""
    for name, text in modules.items():
        (folder / package).mkdir(parents=True, exist_ok=True)
        (folder / package / f"{name}.py").write_text(text)
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *entries]))
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    for name in [name for name in sys.modules if name.split(".")[0] in ("tango_dances", "other_dances")]:
        del sys.modules[name]


def run(capsys, *arguments):
    try:
        status = command.main(["prepare", *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


# --- of other packages -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_source_from_outside_makes_a_data_set(repository, tmp_path):
    """Two processes of their own, with the package on the path as if it were installed."""
    import numpy as np

    install(tmp_path / "site", "tango_dances", ["tango = tango_dances:TANGO"], __init__=DECLARATION, tango=MODULE)
    (tmp_path / "raw").mkdir()
    for index in range(3):
        np.save(tmp_path / "raw" / f"dance_{index}.npy", np.full((20 + index, 72), 0.1, np.float32))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(tmp_path / "site")])}

    def megadance(*arguments):
        code = (
            "import runpy, sys\n"
            "try: runpy.run_module('megadance_hf.cli', run_name='__main__')\n"
            "finally: print([m for m in ('tango_dances', 'tango_dances.tango', 'numpy', 'torch') if m in sys.modules])\n"
        )
        call = [sys.executable, "-c", code, "prepare", *arguments]
        return subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    shown = megadance("--help")
    assert shown.returncode == 0 and "tango, 100 % captured in my kitchen" in " ".join(shown.stdout.split())
    assert shown.stdout.splitlines()[-1] == "['tango_dances']"
    made = megadance(
        "tango", "raw", "out", "--couple", "follower", "--slow-down", "1.5", "--upside-down", "--num-proc", "2"
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("out: 3 clips made, 0 kept from an earlier run\n")
    clips = read_prepared(tmp_path / "out")
    assert [(clip.id, len(clip), clip.source) for clip in clips] == [
        (f"dance_{i}", 20 + i, "follower") for i in range(3)
    ]
    assert read_info(tmp_path / "out")["genres"] == ["tango"]


def test_the_options_of_a_source_from_outside(site, capsys):
    install(site, "tango_dances", ["tango = tango_dances:TANGO"], __init__=DECLARATION, tango=MODULE)
    status, shown, _ = run(capsys, "tango", "--help")
    assert status == 0 and "Tango, 100 % captured in my kitchen." in shown
    assert all(
        option in shown for option in ("--couple {leader,follower}", "--slow-down N", "--upside-down", "--num-proc")
    )
    for arguments, message in [
        (["--couple", "both"], "argument --couple: invalid choice: 'both'"),
        (["--slow-down", "0.5"], "argument --slow-down: '0.5' cannot be used: give a number of 1 or more"),
        (["--slow-down", "2", "--upside-down"], "raw='.' has no .npy: give the folder of the kitchen"),
    ]:
        status, _, told = run(capsys, "tango", ".", "out", *arguments)
        assert status == 2 and message in told and told.count("\n") == 1, told


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("import no_such_module", r"tango_dances:TANGO cannot be imported \(ModuleNotFoundError: No module named 'no_such_module'\)"),
        ("raise RuntimeError('no\\nway')", r"cannot be imported \(RuntimeError: no way\); mend or uninstall it"),
        ("", "cannot be imported .AttributeError: module 'tango_dances' has no attribute 'TANGO'"),
        ("TANGO = 3", "tango_dances:TANGO is a int, not a Source"),
        ("from megadance_hf.data import Option\nTANGO = Option('out', 'x')", "SourceError: name='out' of an option"),
    ],
)  # fmt: skip
def test_a_broken_source_stops_no_other(site, capsys, declaration, message):
    install(site, "tango_dances", ["tango = tango_dances:TANGO"], __init__=declaration)
    status, shown, _ = run(capsys, "--help")
    assert status == 0 and "cannot be used: the source 'tango' of tango-dances" in " ".join(shown.split())
    assert run(capsys, "mocap", site, "out")[2].endswith(
        "has no metadata.jsonl; give the folder as it was downloaded\n"
    )
    status, _, told = run(capsys, "tango", "raw", "out")
    assert status == 2 and told.count("\n") == 1
    with pytest.raises(SourceError, match=message):
        next(found for found in find_sources() if found.name == "tango").load()


def test_a_source_whose_function_is_missing(site, capsys):
    install(site, "tango_dances", ["tango = tango_dances:TANGO"], __init__=DECLARATION)
    assert run(capsys, "tango", "raw", "out")[::2] == (
        2,
        "megadance prepare: error: the source 'tango' of tango-dances: tango_dances.tango:prepare cannot be imported "
        "(ModuleNotFoundError: No module named 'tango_dances.tango'); mend or uninstall it\n",
    )


def test_two_sources_of_one_name_are_refused(site, capsys):
    install(site, "tango_dances", ["tango = tango_dances:TANGO", "mocap = tango_dances:TANGO"], __init__=DECLARATION)
    install(site, "other_dances", ["tango = other_dances:TANGO"], __init__=DECLARATION)
    for name, packages in (("mocap", "megadance-hf and tango-dances"), ("tango", "other-dances and tango-dances")):
        status, _, told = run(capsys, name, "raw", "out")
        assert status == 2 and told.startswith(f"megadance prepare {name}: error: the source {name!r} is in ")
        both = told.split(" is in ")[1].split(":")[0]
        assert sorted(both.split(" and ")) == packages.split(" and ") and told.endswith(
            "uninstall all but one of them\n"
        )


# --- ours --------------------------------------------------------------------------------------------------------------


def test_ours_are_registered(repository, tmp_path):
    call = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path)]
    subprocess.run(call, cwd=repository, check=True, capture_output=True, timeout=300)
    (written,) = tmp_path.glob("*.egg-info/entry_points.txt")
    entries = ConfigParser(delimiters="=")
    entries.read(written)
    assert dict(entries[GROUP]) == OWN


@pytest.mark.parametrize("name", OWN)
def test_options_are_those_of_the_function(name):
    found = next(found for found in find_sources() if found.name == name)
    assert found.source is not None, found.problem
    prepare = found.load()
    parameters, hints = inspect.signature(prepare).parameters, typing.get_type_hints(prepare)
    expected = {"out", "options", *(["raw"] if found.source.has_raw else [])}  # `options` are those of `prepare_clips`:
    assert {"num_proc", "progress", "jumps"} <= set(inspect.signature(prepare_clips).parameters)
    assert set(parameters) == expected | {option.name for option in found.source.options}
    assert found.source.genres == tuple(sys.modules[prepare.__module__].GENRES)
    for option in found.source.options:
        assert option.default == parameters[option.name].default
        kinds = typing.get_args(hints[option.name])
        assert option.choices == kinds if option.choices else option.kind in (hints[option.name], *kinds)


@pytest.mark.parametrize("values", [{"name": "Out"}, {"name": "raw"}, {"name": "a-b"}, {"name": "a", "kind": list}])
def test_options_that_cannot_be(values):
    with pytest.raises(SourceError, match="option"):
        Option(**{"help": "x", **values})
