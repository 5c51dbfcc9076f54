from collections.abc import Callable
from pathlib import Path

import pytest
from tenzo.recipe import Recipe
from tenzo.settings import Hybrid, Settings
from tenzo_hw.config import preset

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))
SMALL = """
name = "small"
machine = "tiny"
batch = 4
steps = 8

[dataset]
name = "digits"

[network]
layers = [{ kind = "tt", inputs = [8, 8], outputs = [1, 10], rank = 1 }]

[settings]
queries = 2
"""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_plans_and_says_itself_again(path: Path) -> None:
    recipe = Recipe.load(path)
    trainer = recipe.trainer()
    # A step of small networks is bound by their losses, moved word by word; a serial machine's is by its processor.
    least = 0.15 if recipe.machine.is_serial else 0.4 if trainer.settings.coordinates else 0.5
    assert trainer.step_utilisation > least
    assert Recipe.of(recipe.model_dump(mode="json"), "again") == recipe


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        (["settings.queries=5", "seed=7"], lambda recipe: (recipe.settings.queries, recipe.seed) == (5, 7)),
        (["machine.columns=4"], lambda recipe: recipe.machine == preset("tiny").replace(columns=4)),
        (["machine=small", "batch=8"], lambda recipe: recipe.machine == preset("small")),
        (["settings.estimator=cge"], lambda recipe: recipe.settings.estimator == "cge"),
        (
            ["fine.estimator=cge", "switch.step=3"],
            lambda recipe: recipe.phases() == Hybrid(coarse=recipe.settings, fine=Settings(estimator="cge"), step=3),
        ),
    ],
)
def test_values_are_changed_by_name(tmp_path, changes: list[str], read: Callable[[Recipe], bool]) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SMALL)
    assert read(Recipe.load(path).changed(changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("queries", "'queries' is no change of a recipe: give name=value"),
        ("seed.x=3", "seed has no values of its own"),
        ("settings.querys=3", "the command line, settings: there is no querys"),
        ("fine.rate=0.1", "a hybrid run needs both"),
        ("switch.step=3", "a hybrid run needs both"),
    ],
)
def test_a_wrong_change_is_refused(tmp_path, change: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SMALL)
    with pytest.raises(ValueError, match=message):
        Recipe.load(path).changed([change])


def test_mnist_is_the_paper_s_network_and_busy() -> None:
    trainer = Recipe.load(next(path for path in RECIPES if path.stem == "mnist-rge")).trainer()
    assert trainer.plan.network.parameters == 3962
    assert trainer.settings.queries == 16
    assert trainer.step_utilisation >= 0.9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"tiny"', '"huge"', "machine: no preset 'huge'; there are tiny"),
        ('"tiny"', "{ lanes = 4 }", "machine: missing 22"),
        ("queries = 2", "querys = 2", "settings: there is no querys; allowed are estimator, optimiser, queries, "),
        ("queries = 2", "queries = 2.5", "settings: queries=2.5 is not possible: a whole number"),
        ("queries = 2", "queries = true", "settings: queries=True is not possible: a whole number"),
        ("queries = 2", 'rate = "fast"', "settings: rate='fast' is not possible: a number"),
        ("queries = 2", "mu = 0.3", "settings: mu=0.3 is not possible: a power of two"),
        ("batch = 4", "batch = 0", "batch: .*greater than or equal to 1; 0 given"),
        ("batch = 4", "batsch = 4", "batsch: there is no such value; allowed are name, machine"),
        ("[1, 10]", "[10]", "network: layers"),
        ("rank = 1", "rank = 0", "network: layers.*rank=0"),
        ("rank = 1", "rang = 1", "network: layers.*there is no rang; allowed are inputs, outputs, rank"),
        ("layers = [", "layers = [3, ", r"network: layers\[0\] is 3, not a table"),
        (
            "[network]",
            "[formats]\ninputs = 7\nweights = 6.5\nlayers = []\nloss = 4\ndense = 7\n[network]",
            "formats: weights=6.5 is not",
        ),
        ('name = "digits"', "", "dataset.name: Field required"),
        ("[network]", "[network", "cannot be read as TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(tmp_path, old: str, new: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        Recipe.load(path)
    assert "\n" not in str(error.value)


def test_samples_that_do_not_match_are_refused(tmp_path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SMALL.replace("[1, 10]", "[1, 9]"))
    recipe = Recipe.load(path)
    with pytest.raises(ValueError, match="digits needs 10 outputs, the network has 9"):
        recipe.check(recipe.dataset.load(0))
    path.write_text(SMALL.replace("inputs = [8, 8]", "inputs = [8, 4]"))
    recipe = Recipe.load(path)
    with pytest.raises(ValueError, match="digits has 64 inputs a sample, the network takes 32"):
        recipe.check(recipe.dataset.load(0))
