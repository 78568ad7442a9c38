"""Every glTF file that is written passes Khronos' validator without errors or warnings."""

import pytest
from gltf_validator import REMEDY, find_validator, validate
from helpers import save_tiny_model, skip_outside_ci, write_song
from test_demo_studio import dance, give
from test_export import random_motion

from megadance_hf import MusicToDancePipeline
from megadance_hf.demo.studio import Studio

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _there_is_one():
    if not find_validator():
        skip_outside_ci(f"the glTF validator is not there: {REMEDY}")


@pytest.mark.parametrize(("suffix", "options"), [(".glb", {}), (".glb", {"body": "smooth"}), (".vrma", {})])
def test_dances(tmp_path, suffix, options):
    motions = {"long": random_motion(300, spread=2.0), "one_frame": random_motion(1), "no_genre": random_motion(2)}
    motions["no_genre"].genre = None
    reports = validate(*(motion.save(tmp_path / f"{name}{suffix}", **options) for name, motion in motions.items()))
    for name, report in zip(motions, reports, strict=True):
        assert report["numErrors"] == report["numWarnings"] == 0, f"{name}: {report['messages'][:3]}"
        # It reports that it does not know VRM's extension, and nodes without children or mesh (hands, toes, head).
        known = {"UNSUPPORTED_EXTENSION", "NODE_EMPTY"} if suffix == ".vrma" else set()
        assert {message["code"] for message in report["messages"]} == known, name


def test_figures_of_the_web_page(tmp_path):
    studio = Studio(MusicToDancePipeline.from_pretrained(save_tiny_model(tmp_path / "tiny")), tmp_path / "kept")
    song = give(studio, write_song(tmp_path / "song.wav", seconds=2.5))
    dance(studio, song, seconds=2.5, beside="rumba", seed=1)
    figures = sorted(studio.dances_folder.rglob("*.glb"))
    assert len(figures) == 2
    for report in validate(*figures):
        assert report["messages"] == []
