"""What a report looks like as Markdown and plots."""

import json

import cv2
import pytest
from test_evaluation import data, models  # noqa: F401  (fixtures)

from megadance_hf.evaluation import reports
from megadance_hf.evaluation.run import Evaluation, evaluate
from megadance_hf.motion.motion import MotionError


@pytest.fixture(scope="module")
def report(data, models):  # noqa: F811
    found = evaluate(models / "model", data, "aistpp", seeds=1, songs=3, clip_frames=104, clip_stride=96)
    return found.report


def table_after(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table after a heading."""
    lines = iter(text.split(heading, 1)[1].splitlines())
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return [rows[0], *rows[2:]]


def test_the_paper_s_table_as_it_stands_there(report):
    text = reports.markdown(report)
    header, *rows = table_after(text, "## Table 2")
    assert header == ["", "FID k ↓", "FID g ↓", "DIV g ↑", "DIV s ↑", "BAS ↑"]
    truth = rows[0]
    assert truth[0] == "ground truth" and truth[1] == "0.00" and truth[4] == "-"
    assert truth[5] == f"{report['rows']['ground_truth']['BAS']:.3f}"
    assert rows[-1][0] == "MEGADance"
    assert "the same excerpts' ground truth (5 excerpts)" in text and "released convention" in text
    assert "No style features" in text and "one every 96 frames" in text


def test_every_row_and_condition_is_told(report):
    text = reports.markdown(report)
    genres = [f"\n### {genre}\n" for genre in report["genre_truth"]]
    alone = (
        "the dances themselves",
        "### Spins, jumps",
        "### The worst dance",
        "### Beat alignment, over the music's beats",
    )
    everything = [row["label"] for row in report["rows"].values()]
    for heading in alone:
        assert [row[0] for row in table_after(text, heading)[1:]] == everything
    for heading in genres:
        labels = [row[0] for row in table_after(text, heading)[1:]]
        assert labels == [
            *everything,
            "tokenizer, cleaned",
            "MEGADance, cleaned",
        ]  # no classifier, so no genre is forced
    conditions = [row[0] for row in table_after(text, "cross-entropy\n")[1:]]
    assert conditions == list(reports.CONDITIONS.values())
    assert report["notes"] and all(f"- {note}" in text for note in report["notes"])
    assert all(len({len(row) for row in table_after(text, heading)}) == 1 for heading in (*alone, *genres))


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(None, 2, "-"), (0.0, 3, "0.000"), (12.345, 1, "12.3"), (-0.5, 2, "-0.50"), (3.21e12, 2, "3.2e+12")],
)
def test_numbers(value, decimals, text):
    assert reports._number(value, decimals) == text


@pytest.mark.slow
def test_files_are_whole(report, tmp_path):
    files = Evaluation(report).write(tmp_path / "new" / "folder")
    assert sorted(file.name for file in files) == sorted(p.name for p in (tmp_path / "new" / "folder").iterdir())
    assert json.loads(files[0].read_text()) == report
    pictures = [file for file in files if file.suffix == ".png"]
    assert {file.name for file in pictures} == {"table_2.png", "cross_entropy.png", "synchrony.png", "bar_profiles.png"}
    for picture in pictures:
        pixels = cv2.imread(str(picture))
        assert min(pixels.shape[:2]) > 150 and pixels.std() > 5, picture.name
    before = files[1].read_text()
    assert reports.write_report(report, tmp_path / "new" / "folder")[1].read_text() == before


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(report, tmp_path):
    (tmp_path / "tables.md").mkdir()
    with pytest.raises(MotionError, match="tables.md"):
        reports.write_report(report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "tables.md"]


def test_both_versions_of_a_dance_stand_side_by_side(report):
    header, *rows = table_after(reports.markdown(report), "### Before and after the clean-up")
    labels = {(row[0], row[1]): row for row in rows}
    assert {row[0] for row in rows} >= {
        "ground truth",
        "nearest music",
        "tokenizer",
        "MEGADance",
        "MEGADance, no music",
    }
    for version in reports.VERSIONS:
        found = report["rows"]["megadance"]["versions"][version]
        assert labels["MEGADance", version][header.index("90 %")] == f"{found['toe_90']:.2f}"
        assert labels["MEGADance", version][2] == f"{found['dances_with']['spins']} of {found['dances']}"


def test_numbers_stand_beside_their_share_of_the_truth(report):
    genre, truth = next(iter(report["genre_truth"].items()))
    header, *rows = table_after(reports.markdown(report), f"\n### {genre}\n")
    row = next(row for row in rows if row[0] == "MEGADance")
    found = report["rows"]["megadance"]["by_genre"][genre]
    share = found["mean_speed"] / truth["mean_speed"]
    assert row[header.index("speed, m/s")] == f"{found['mean_speed']:.2f} ({share:.2f})"
    assert rows[0][header.index("speed, m/s")] == f"{truth['mean_speed']:.2f} (1.00)"


def test_genres_are_told_as_they_were_asked_for(report):
    header, *rows = table_after(reports.markdown(report), "### Genres as they were asked for")
    assert [row[0] for row in rows] == list(report["genre_truth"])
    assert all(row[2] == "-" and row[5] == "0" for row in rows)  # no classifier
    own = next(row for row in rows if row[0] == "waltz")
    share = (
        report["rows"]["megadance"]["by_genre"]["waltz"]["mean_speed"] / report["genre_truth"]["waltz"]["mean_speed"]
    )
    assert own[header.index("right genre: speed, of the truth's")] == f"{share:.2f}"
