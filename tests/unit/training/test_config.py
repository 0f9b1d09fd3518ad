import json
from typing import get_args

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.errors import ArgumentError, UnknownNameError
from mousecmr_data.inference.grid import SCALINGS, Scaling
from mousecmr_data.models.unet3plus import CHANNELS
from mousecmr_data.training.config import RECIPES, TrainConfig, get_recipe, update_config


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_same_after_writing_and_reading_json(name: str) -> None:
    assert TrainConfig.from_json(get_recipe(name).to_json()) == get_recipe(name)
    assert get_recipe(name).recipe == name


def test_the_published_recipe_has_the_published_values() -> None:
    c = get_recipe("published")
    assert (c.channels, c.batch_size, c.epochs, c.patience) == ((32, 64, 128, 256, 512), 16, 200, 25)
    assert (c.learning_rate, c.schedule, c.cross_entropy, c.augmentation) == (1e-3, "constant", 0.0, "paper")


@pytest.mark.parametrize(
    ("key", "value", "expected", "nearest"),
    [
        ("precision", "fp16", "'auto', 'float32', 'bfloat16'", "precision=bfloat16"),
        ("precision", "bf16", "'auto', 'float32', 'bfloat16'", "precision=bfloat16"),
        ("schedule", "cosine", "'constant', 'one-cycle'", "schedule=one-cycle"),
        ("scaling", "minmax", "'min-max', 'min-p99'", "scaling=min-max"),
        ("augmentation", "randomized", "'randomised'", "augmentation=randomised"),
        ("half_weights", "ja", "true or false", "half_weights=true"),
        ("half_weights", 1, "true or false", "half_weights=true"),
        ("epochs", "foo", "a whole number, 1 or more; by default 200", None),
        ("epochs", True, "a whole number", None),
        ("epochs", 1.5, "a whole number", None),
        ("steps_per_epoch", "all", "a whole number, or null, 1 or more", None),
        ("learning_rate", "1e-3x", "a number", None),
        ("learning_rate", float("nan"), "a number", None),
        ("learning_rate", 0, "a number", None),
        ("any_scanner", 2, "0 or more, 1 at most", None),
        ("alone", 1.5, "0 or more, 1 at most", None),
        ("natural", -0.1, "0 or more, 1 at most", None),
        ("channels", "2,2,2,2,2", "a list of whole numbers, such as [32, 64, 128, 256, 512]", None),
        ("channels", [2, "x"], "a list of whole numbers", None),
        ("network_args", "[1]", "an object of JSON values", None),
        ("network_args", {"act": object()}, "an object of JSON values", None),
        ("device", 0, "text", None),
        ("crop", 100, "a multiple of 16", "crop=112"),
    ],
)
def test_a_wrong_value_is_named_with_the_possible_ones_and_the_nearest(
    key: str, value: object, expected: str, nearest: str | None
) -> None:
    with pytest.raises(ArgumentError) as e:
        update_config(TrainConfig(), {key: value})
    assert key in e.value.found and str(value) in e.value.found
    assert expected in str(e.value.expected)
    if nearest is None:
        assert e.value.next_step is None
    else:  # the advice works
        assert nearest in str(e.value.next_step)
        word = nearest.partition("=")[2]
        update_config(TrainConfig(), {key: json.loads(word) if word in ("true", "112") else word})
    with pytest.raises(ArgumentError):
        TrainConfig(**{key: value})


def test_values_get_the_type_of_their_setting() -> None:
    config = TrainConfig(learning_rate=1, channels=[2, 4, 4, 8, 8], seed=np.int64(3), steps_per_epoch=None)
    assert (config.learning_rate, config.channels, config.seed) == (1.0, (2, 4, 4, 8, 8), 3)
    assert type(config.learning_rate) is float
    assert type(config.seed) is int
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[1]", "JSON object"), ('{"epochs": "ten"}', "epochs is 'ten'"), ('{"epoch": 1}', "epochs")],
)
def test_a_wrong_file_is_refused(text: str, message: str) -> None:
    with pytest.raises((ArgumentError, UnknownNameError), match=message):
        TrainConfig.from_json(text)


def test_another_network_does_not_inherit_the_settings_of_unet3plus() -> None:
    values = {"network": "monai.networks.nets:UNet", "network_args": {"strides": (2, 2)}}
    config = update_config(get_recipe("phantom-small"), values)
    assert (config.channels, config.reduce, config.context) == (CHANNELS, 1, 1)
    assert config.make_network_args() == {"strides": [2, 2]}  # as in the file
    assert TrainConfig.from_json(config.to_json()) == config
    with pytest.raises(ArgumentError, match="settings of UNet3"):
        update_config(config, {"channels": [2, 2, 2, 2, 2]})


def test_the_scalings_are_those_that_exist() -> None:
    assert get_args(Scaling) == tuple(SCALINGS)


@pytest.mark.parametrize("values", [{"chanels": [1]}, {"batch_size": 0}, {"replicas": 3}])
def test_invalid_values_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UnknownNameError if "chanels" in values else ArgumentError):
        update_config(TrainConfig(), values)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="phantom-small"):
        get_recipe("best")
