"""What each recipe stands for, and who beats whom."""

import pytest

import mura
import networks
import recipes

EXPECTED = {
    "default": ("densenet169", "imagenet", 320, 52, 8, 1e-3, "cosine"),
    "original": ("densenet169_k12", "none", 320, 52, 8, 1e-3, "steps"),
    "inception": ("inception_v3", "imagenet", 150, 30, 16, 1e-3, "constant"),
    "paper": ("densenet169", "imagenet", 320, 52, 8, 1e-4, "plateau"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_recipe(name):
    recipe = recipes.RECIPES[name]()
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
    assert recipe.network in networks.BUILDERS and recipe.schedule in recipes.SCHEDULES
    assert "Source:" in recipes.RECIPES[name].__doc__


def test_original_divides_by_10_50_100():
    factors = [recipes.steps(epoch, 52) for epoch in range(52)]
    assert factors == [1] * 13 + [1 / 10] * 13 + [1 / 50] * 13 + [1 / 100] * 13


def test_cosine_falls_from_one_towards_zero():
    factors = [recipes.cosine(epoch, 10) for epoch in range(10)]
    assert factors[0] == 1 and factors[5] == pytest.approx(0.5) and factors == sorted(factors, reverse=True) and factors[-1] > 0


def test_command_line_beats_recipe():
    options, resume = mura.parse_options(
        ["--recipe", "original", "--size", "64", "--learning-rate", "0.5", "--precision", "float32"]
    )
    assert not resume
    assert (options["size"], options["learning_rate"], options["network"]) == (64, 0.5, "densenet169_k12")
    assert options["epochs"] == 52 and options["resize"] == "stretch" and options["seed"] == 0


def test_command_line_beats_demo_beats_recipe():
    options, _ = mura.parse_options(["--demo", "--epochs", "1"])
    assert options["epochs"] == 1 and options["weights"] == "none" and options["size"] == mura.DEMO["size"]
