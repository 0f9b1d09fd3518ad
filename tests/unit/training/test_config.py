import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.errors import ArgumentError, UnknownNameError
from mousecmr_data.training.config import RECIPES, TrainConfig, get_recipe, update_config


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_same_after_writing_and_reading_json(name: str) -> None:
    assert TrainConfig.from_json(get_recipe(name).to_json()) == get_recipe(name)
    assert get_recipe(name).recipe == name


def test_the_published_recipe_has_the_published_values() -> None:
    c = get_recipe("published")
    assert (c.channels, c.batch_size, c.epochs, c.patience) == ((32, 64, 128, 256, 512), 16, 200, 25)
    assert (c.learning_rate, c.schedule, c.cross_entropy, c.augmentation) == (1e-3, "constant", 0.0, "paper")


@pytest.mark.parametrize("values", [{"chanels": [1]}, {"batch_size": 0}, {"replicas": 3}])
def test_invalid_values_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UnknownNameError if "chanels" in values else ArgumentError):
        update_config(TrainConfig(), values)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="phantom-small"):
        get_recipe("best")
