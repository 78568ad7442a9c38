"""A model's page on the Hub: the numbers of an evaluation, and a page of somebody's own."""

import pytest
import yaml
from card_rules import card_errors
from helpers import save_tiny_model, tiny_classifier, tiny_tokenizer
from huggingface_hub import ModelCard
from test_evaluation import data, models  # noqa: F401  (fixtures)

from megadance_hf import MusicToDancePipeline
from megadance_hf.evaluation import reports
from megadance_hf.evaluation.run import evaluate
from megadance_hf.hub.card import model_card
from megadance_hf.hub.connection import HubError
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer

REPO = "anna/dance"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return MusicToDancePipeline.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def report(data, models):  # noqa: F811
    """A real one."""
    options = {"seeds": 1, "clip_frames": 104, "songs": 4, "splits": ["train", "test"]}
    return evaluate(models / "model", data, "aistpp", classifier=models / "classifier", **options).report


def metadata(page: str) -> dict:
    return yaml.safe_load(page.split("---\n")[1])


def formatted(value: float, decimals: int) -> str:
    return reports._number(value, decimals)


def test_a_card_from_an_evaluation(pipe, report):
    options = {"report": report, "licence": "cc-by-nc-4.0", "datasets": ["anna/ballroom"], "sample": True}
    text = str(model_card(pipe.model.config, repo=REPO, **options))
    assert card_errors(text, "model") == []
    facts = ModelCard(text).data
    found = {result.metric_type: result for result in facts.eval_results}
    row, values = report["rows"]["megadance"], report["tables"]["2"]["rows"][-1]["values"]
    for name, value in [*values.items(), *((name, row[name]) for name in {**reports.DANCES, **reports.PHYSICAL})]:
        if value is None:
            assert name.lower() not in found, "only numbers"
        else:
            assert found[name.lower()].metric_value == pytest.approx(value), name
    assert found["fid_k"].metric_name == "FID k" and found["jerk"].metric_name == "jerk, m/s^3" and "acc" in found
    assert found["dances_with_spins"].metric_value == row["dances_with"]["spins"]
    assert found["worst_frozen_share"].metric_value == row["worst"]["frozen_share"]
    own, truth = row["by_genre"]["waltz"], report["genre_truth"]["waltz"]
    assert found["jerk_ratio_waltz"].metric_value == pytest.approx(own["jerk"] / truth["jerk"])
    assert found["toe_90"].metric_name == "toe on the floor, 90 % m/s"
    assert "### By genre" in text and "### Before and after the clean-up" in text
    assert {(r.dataset_type, r.dataset_split, r.task_type) for r in facts.eval_results} == {
        ("anna/ballroom", "train+test", "music-to-dance")
    }
    assert facts.license == "cc-by-nc-4.0" and facts.datasets == ["anna/ballroom"] and facts.model_name == "dance"
    assert (
        f"| MEGADance | {formatted(values['FID_k'], 2)} |" in text
        and "### Table 2: " in text
        and "### Table 3: " in text
    )
    assert "chacha, rumba, waltz" in text and "anna/ballroom" in text
    assert f"Feet skate in {row['foot_skating_ratio']:.0%} of the frames" in text and "One dancer" in text
    assert (
        f"Of {row['dances']} dances {row['dances_with']['spins']} have a spin" in text and "before the clean-up" in text
    )
    assert f'src="https://huggingface.co/{REPO}/resolve/main/sample.mp4"' in text and "](sample.png)" in text
    assert report["settings"]["data"] not in text and report["settings"]["model"] not in text, (
        "no paths of this machine"
    )


def test_a_report_of_an_earlier_version_still_makes_a_card(pipe, report):
    new = {"versions", "worst", "dances_with", "joins", "known_run", "toe_median", "toe_90", "new_joins", "in_units"}
    rows = {name: {key: row[key] for key in row.keys() - new} for name, row in report["rows"].items()}
    settings = {key: value for key, value in report["settings"].items() if key != "clean"}
    earlier = {key: value for key, value in report.items() if key not in ("genre_truth", "forced")}
    text = str(model_card(pipe.model.config, repo=REPO, report=earlier | {"rows": rows, "settings": settings}))
    assert card_errors(text, "model") == [] and "### Table 2" in text and "By genre" not in text
    assert "a spin" not in text and "the clean-up" not in text and "Feet skate" in text


def test_a_card_says_which_arrangement_a_model_has():
    text = str(model_card(MegaDanceConfig.released_2026(), repo=REPO))
    assert card_errors(text, "model") == []
    assert (
        "**Arrangement.** released_2026, as in the authors' release of 2026 (code head: one softmax per level" in text
    )
    assert "Mamba: one per layer and stream" in text


@pytest.mark.parametrize("model", [tiny_tokenizer(), tiny_classifier()], ids=["tokenizer", "classifier"])
def test_cards_of_the_other_models(model, report):
    text = str(model_card(model.config, repo="anna/x"))
    assert card_errors(text, "model") == [] and 'AutoModel.from_pretrained("anna/x", trust_remote_code=True)' in text
    assert metadata(text)["license_name"] == "unstated" and "Limits" not in text and "model-index" not in text
    measured = str(model_card(model.config, repo="anna/x", report=report))
    assert card_errors(measured, "model") == []
    found = {result.metric_type: result.metric_value for result in ModelCard(measured).data.eval_results}
    if isinstance(model, MegaDanceTokenizer):
        assert found["jerk_ratio"] == pytest.approx(report["tokenizer"]["jerk_ratio"]) and "fid_k" not in found
        assert f"| {formatted(report['tokenizer']['joint_error'], 4)} |" in measured
    else:
        scores = report["genres"]["scores"]["ground_truth"]
        assert found == {"acc": pytest.approx(scores["ACC_right"]), "f1": pytest.approx(scores["F1_right"])}
        with pytest.raises(HubError, match="report has no numbers of a 'megadance_classifier'"):
            model_card(model.config, report={**report, "genres": {}})


def test_a_page_of_one_s_own_stays_and_gets_the_numbers(pipe, repository, report, tmp_path):
    own = repository / "megadance_hf" / "pretrained" / "ballroom" / "README.md"
    text = str(model_card(pipe.model.config, repo=REPO, report=report, own=own))
    page = own.read_text(encoding="utf-8")
    assert page.split("---\n", 2)[2].strip() in text and card_errors(text, "model") == []
    facts = metadata(text)
    assert facts["license_name"] == "research-only" and facts["library_name"] == "megadance-hf"
    assert facts["model-index"][0]["results"] and "## Results" in text and "## Limits" not in text
    (tmp_path / "pushed.md").write_text(text)
    again = str(model_card(pipe.model.config, repo=REPO, report=report, own=tmp_path / "pushed.md"))
    assert again == text, "what was made is not made twice"
    made = str(model_card(pipe.model.config, repo=REPO, report=report))
    (tmp_path / "made.md").write_text(made)
    assert str(model_card(pipe.model.config, repo=REPO, report=report, own=tmp_path / "made.md")) == made
    (tmp_path / "bad.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(HubError, match="card='.*bad.md' cannot be read"):
        model_card(pipe.model.config, own=tmp_path / "bad.md")
