"""What each recipe stands for, and who beats whom."""

import math

import pytest

from bones.networks.catalogue import NETWORKS
from bones.runs import recipes
from bones.runs.options import SCHEDULES
from bones.training import command_line
from bones.training import trainer as training

EXPECTED = {
    "default": ("densenet169", "imagenet", 320, 52, 8, 3e-4, "cosine"),
    "original": ("densenet169_k12", "none", 320, 52, 8, 1e-3, "steps"),
    "inception": ("inception_v3", "imagenet", 150, 30, 16, 1e-3, "constant"),
    "paper": ("densenet169", "imagenet", 320, 52, 8, 1e-4, "plateau"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_recipe(name):
    recipe = recipes.options(name)
    found = (
        recipe.network,
        recipe.weights,
        recipe.size,
        recipe.epochs,
        recipe.batch_size,
        recipe.learning_rate,
        recipe.schedule,
    )
    assert found == EXPECTED[name]
    assert recipe.network in NETWORKS and recipe.schedule in training.SCHEDULES
    assert "Source:" in recipes.RECIPES[name].__doc__


def rates(schedule, rate, epochs, steps_an_epoch):
    """The learning rate of every step."""
    made = training.SCHEDULES[schedule](rate, epochs, steps_an_epoch)
    return [float(made(step)) if callable(made) else made for step in range(epochs * steps_an_epoch)]


def test_every_schedule_can_be_asked_for():
    assert set(SCHEDULES) == set(training.SCHEDULES)


def test_original_divides_by_10_50_100():
    expected = [1e-3] * 13 * 5 + [1e-4] * 13 * 5 + [2e-5] * 13 * 5 + [1e-5] * 13 * 5
    assert rates("steps", 1e-3, 52, 5) == pytest.approx(expected)


def test_cosine_falls_from_the_rate_towards_zero():
    found = rates("cosine", 1e-3, 10, 4)
    assert found == pytest.approx([0.5e-3 * (1 + math.cos(math.pi * step / 40)) for step in range(40)], abs=1e-8)


def test_constant_and_plateau_start_as_given():
    assert rates("constant", 1e-3, 2, 2) == rates("plateau", 1e-3, 2, 2) == [1e-3] * 4


def test_command_line_beats_recipe():
    request = command_line.parse(["--recipe", "original", "--size", "64", "--learning-rate", "0.5", "--precision", "float32"])
    options = request.options
    assert not request.resume
    assert (options.size, options.learning_rate, options.network) == (64, 0.5, "densenet169_k12")
    assert options.epochs == 52 and options.resize == "stretch_linear" and options.seed == 0


def test_command_line_beats_demo_beats_recipe():
    options = command_line.parse(["--demo", "--epochs", "1"]).options
    assert options.epochs == 1 and options.weights == "none" and options.size == command_line.DEMO["size"]
