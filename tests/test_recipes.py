"""Recipes: every name and value of YAML and of --set is known and of the right kind, or an error of one line that names it."""

import pytest
import yaml

from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.training.recipes import SECTIONS, DataSettings, GenerationSettings, RecipeError, read_recipe

pytestmark = pytest.mark.versions

MINIMAL = "model:\n  hidden_size: 16\ntraining:\n  epochs: 2\n"


def written(tmp_path, text: str | bytes):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_recipes_that_come_along_are_read(repository):
    files = sorted((repository / "examples" / "configs").glob("*.yaml"))
    assert len(files) == 12
    for file in files:
        recipe = read_recipe(file, file.stem.rsplit("_", 1)[1])
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert recipe.settings == settings and recipe.training().epochs == settings["training"]["epochs"]


def test_changes_go_as_deep_as_the_sections(tmp_path):
    changes = [
        "rhythm.training.epochs=3",
        "training.learning_rate=1e-3",
        "task.code_noise=0",
        "training.mixed_precision=no",
    ]
    changes += ["windows.repeats.waltz=2", 'rhythm.windows={"length": 64}', "model.music_columns=[32, 33]"]
    recipe = read_recipe(written(tmp_path, MINIMAL), "generator", changes)
    assert recipe.training("rhythm.training").epochs == 3 and recipe.training().learning_rate == 0.001
    assert recipe.section("task") == {"code_noise": 0} and recipe.training().mixed_precision == "no"
    assert recipe.section("rhythm.windows") == {"length": 64} and "rhythm" in recipe and "sampler" not in recipe
    assert recipe.section("model") == {"hidden_size": 16, "music_columns": [32, 33]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainning: {}", "recipe.yaml: trainning is not a setting of a generator's recipe; did you mean training?"),
        ("windows: {lenght: 3}", "windows.lenght is not a setting of a generator's recipe; did you mean length?"),
        ("rhythm: {training: {epoch: 3}}", "rhythm.training.epoch is not .* did you mean epochs?"),
        ("epochs: 3", "epochs is not a setting of a generator's recipe; did you mean training.epochs?"),
        ("model: {id2label: {0: a}}", "model.id2label is not a setting"),
        ("training: 4", "training is a section with settings .*, not 4"),
        ("model: {hidden_size: many}", "model.hidden_size='many' is not possible: give a whole number"),
        ("model: {hidden_size: true}", "model.hidden_size=True is not possible: give a whole number"),
        ("model: {mlp_activation: relu}", "model.mlp_activation='relu' is not possible: give one of none, gelu"),
        ("model: {music_columns: [a]}", r"model.music_columns=\['a'\] is not possible: give a list in brackets"),
        (
            "windows: {repeats: {waltz: 1.5}}",
            "windows.repeats={'waltz': 1.5} is not possible: give names with a whole number",
        ),
        (
            "windows: {stretches: 1.0}",
            "windows.stretches=1.0 is not possible: give a list in brackets, of a number each",
        ),
        ("training: {learning_rate: .inf}", "training.learning_rate=inf is not possible: give a number"),
        ("training: {epochs: }", "training.epochs=null is not possible: give a whole number"),
        ("- 1", "recipe.yaml is no recipe: give sections with settings"),
        ("a: b: c", "recipe.yaml cannot be read"),
        (b"\xff\xfe\x00", "recipe.yaml cannot be read"),
        ("training: {epochs: 1, epochs: 2}", "epochs stands twice in one section"),
        ("model: &a {hidden_size: 8}\nwindows: *a", "aliases .* are not read here"),
        ("a: " + "[" * 3000, "recipe.yaml cannot be read"),
        ("x" * (2 << 16), "recipe.yaml is no recipe: it has more than 64 kB"),
    ],
)
def test_what_a_recipe_may_not_say(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message) as error:
        read_recipe(written(tmp_path, text), "generator")
    assert "recipe.yaml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("hidden_size", "give SECTION.NAME=VALUE with a section of model, data"),
        ("model.hiden_size=3", "--set model.hiden_size=3: model.hiden_size is not .* did you mean hidden_size?"),
        ("a.b.c=3", "--set a.b.c=3: a is not a setting"),
        ("model.hidden_size.x=3", "model.hidden_size={'x': 3} is not possible: give a whole number"),
        ("model.hidden_size=[", r"--set model.hidden_size=\[: '\[' is no value of YAML"),
        ("model.=3", "give SECTION.NAME=VALUE"),
    ],
)
def test_what_a_change_may_not_say(tmp_path, change, message):
    with pytest.raises(RecipeError, match=message) as error:
        read_recipe(written(tmp_path, MINIMAL), "generator", [change])
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere.yaml does not exist"):
        read_recipe(tmp_path / "nowhere.yaml", "tokenizer")
    with pytest.raises(RecipeError, match="is a folder: give the recipe's file"):
        read_recipe(tmp_path, "tokenizer")
    assert read_recipe(written(tmp_path, ""), "tokenizer").settings == {}


@pytest.mark.parametrize(
    ("place", "make", "values", "message"),
    [
        (
            "model",
            MegaDanceConfig,
            {"hidden_size": 17},
            "recipe.yaml: model.hidden_size=17 is not possible: it must be a multi",
        ),
        ("data", DataSettings, {"hold_back": 1.0}, "recipe.yaml: data.hold_back=1.0 is not possible"),
        ("generation", GenerationSettings, {"top_p": 0.0}, "recipe.yaml: generation.top_p=0.0 is not possible"),
    ],
)
def test_values_that_cannot_be_name_the_file(tmp_path, place, make, values, message):
    recipe = read_recipe(written(tmp_path, yaml.safe_dump({place: values})), "generator")
    with pytest.raises(RecipeError, match=message) as error, recipe.using(place):
        make(**recipe.section(place))
    assert "\n" not in str(error.value)
    (tmp_path / "recipe.yaml").write_text("training: {epochs: 0}")
    with pytest.raises(RecipeError, match="recipe.yaml: training.epochs=0: give a whole number of 1 or more"):
        read_recipe(tmp_path / "recipe.yaml", "generator").training()


def test_repeats_of_genres_that_the_data_lack(tmp_path, capsys):
    file = written(tmp_path, "windows: {repeats: {waltz: 2, samba: 3}}")
    assert read_recipe(file, "generator").repeats("windows", ["waltz"]) == {"waltz": 2}
    assert capsys.readouterr().out == "windows.repeats: the data have no samba; that changes nothing\n"
    many = read_recipe(file, "generator", ["windows.repeats.waltz=1000000"])
    with pytest.raises(RecipeError, match="windows.repeats.waltz=1000000 is not possible: give 0 to 1000"):
        many.repeats("windows", ["waltz"])
    asked = read_recipe(file, "generator", ["windows.repeats.walts=2"])
    with pytest.raises(
        RecipeError, match="--set windows.repeats.walts: no such genre in the data; did you mean waltz?"
    ):
        asked.repeats("windows", ["waltz"])


def test_every_setting_has_a_kind_that_is_understood():
    """A kind that the reader does not know would refuse every value."""
    from megadance_hf.training.recipes import _described

    def kinds(section):
        for value in section.values():
            yield from kinds(value) if isinstance(value, dict) else [value]

    for kind in SECTIONS:
        assert all("<" not in _described(one) and "typing" not in _described(one) for one in kinds(SECTIONS[kind]))
