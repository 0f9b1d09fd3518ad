import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.baseline.config import RECIPES, Config, changed, recipe
from mousecmr_data.errors import UnknownNameError


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    assert Config.from_json(recipe(name).to_json()) == recipe(name)
    assert recipe(name).recipe == name


def test_the_published_recipe_is_the_published_one() -> None:
    c = recipe("published")
    assert (c.channels, c.batch_size, c.epochs, c.patience) == ((32, 64, 128, 256, 512), 16, 200, 25)
    assert (c.learning_rate, c.schedule, c.cross_entropy, c.augmentation) == (1e-3, "constant", 0.0, "paper")


@pytest.mark.parametrize("values", [{"chanels": [1]}, {"batch_size": 0}, {"replicas": 3}])
def test_mistakes_are_named(values: dict[str, object]) -> None:
    with pytest.raises(UnknownNameError):
        changed(Config(), values)


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(UnknownNameError, match="phantom-small"):
        recipe("best")
