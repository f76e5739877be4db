"""Each recipe against all settings of its source, and what overrides what."""

import math
import re
import shlex

import pytest

from bones.networks.catalogue import NETWORKS
from bones.runs import recipes
from bones.runs.options import SCHEDULES
from bones.training import command_line
from bones.training import trainer as training
from tools import ablation_plans

SAME = "same"
# Every setting of each source: (its value, SAME or the number of the difference in the recipe's docstring). Settings that are
# fields of Options have the field's name; where the source is the same, the recipe has this value.
SOURCES = {
    "original": {  # mura.py, densenet.py, data_loader.py, model_test.py of the repository
        "network": ("densenet169_k12", SAME),
        "weights": ("none", SAME),
        "size": (320, SAME),
        "resize": ("stretch_linear", SAME),  # cv2.resize
        "epochs": (52, SAME),
        "batch_size": (8, SAME),
        "learning_rate": (1e-3, SAME),
        "schedule": ("steps", SAME),  # / 10, / 50, / 100 from 25, 50 and 75 %
        "class_weighted": (False, SAME),
        "chosen": ("last", SAME),  # model_test.py loads epoch 52
        "study_type": (("XR_HUMERUS",), SAME),
        "dropout": (0.0, SAME),  # before the last unit; 0.2 after convolutions is in the network
        "flip": (False, 1),
        "rotation": (30.0, 6),
        "rotated views": ("all splits", 2),
        "scaling": ("mean and standard deviation of the batch", 3),
        "unreadable view": ("dropped, its label kept", 4),
        "best epoch": ("lowest loss and highest accuracy on valid/, of the first 14", 5),
        "last batch": ("remainder distributed", 7),
        "Adam's epsilon": (1e-8, 8),
        "threshold": (0.5, 9),
        "training views": ("all of train/", 10),
        "scored": ("views", 11),
        "precision": ("float32", 12),
    },
    "inception": {  # bone_fracture_detection.py of the repository
        "weights": ("imagenet", SAME),
        "size": (150, SAME),
        "resize": ("stretch_nearest", SAME),  # Keras's ImageDataGenerator
        "epochs": (30, SAME),
        "batch_size": (16, SAME),
        "learning_rate": (1e-3, SAME),  # Adam's default
        "schedule": ("constant", SAME),
        "flip": (False, SAME),
        "rotation": (0.0, SAME),
        "class_weighted": (False, SAME),
        "dropout": (0.3, SAME),
        "chosen": ("last", SAME),
        "study_type": (("XR_HUMERUS",), SAME),
        "network": ("TF-Hub inception_v3 classification 4, 1,001 logits", 1),
        "channels": ("colour", 2),
        "training views": ("all 1,272 of train/", 3),
        "threshold": (0.5, 4),
        "history": ("JSON", 5),
        "validation": ("18 batches of valid/", 6),
        "precision": ("float32", 7),
        "without a network connection": ("fails", 8),
    },
    "paper": {  # section 3
        "study_type": (("all",), SAME),
        "network": ("densenet169", SAME),
        "weights": ("imagenet", SAME),
        "size": (320, SAME),
        "resize": ("stretch", SAME),
        "batch_size": (8, SAME),
        "learning_rate": (1e-4, SAME),
        "flip": (True, SAME),
        "rotation": (30.0, SAME),
        "class_weighted": (True, SAME),
        "chosen": ("lowest_loss", SAME),
        "networks": ("mean of the five with the lowest validation loss", 1),
        "validation": ("MURA's valid/", 2),
        "epochs": (None, 3),
        "threshold": (0.5, 4),
        "standardise": ("mean and standard deviation of ImageNet", 5),
        "schedule": ("divided by 10 when the validation loss plateaus", 6),
        "precision": (None, 7),
    },
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_recipe_is_its_source_but_for_the_differences_that_it_lists(name):
    settings, text, source = recipes.RECIPES[name](), recipes.RECIPES[name].__doc__, SOURCES[name]
    assert settings.keys() <= source.keys(), "every setting of the recipe is in the table"
    recipe = recipes.options(name)
    for setting, (value, same) in source.items():
        if same == SAME:
            assert getattr(recipe, setting) == value, setting
    listed = [int(number) for number in re.findall(r"^    (\d+)\. ", text, re.MULTILINE)]
    assert listed == list(range(1, len(listed) + 1)) and "Source: " in text and "Differences:" in text
    assert {same for _, same in source.values()} - {SAME} == set(listed), "each difference is in the table"


def test_the_default_recipe():
    recipe = recipes.options("default")
    found = (recipe.network, recipe.weights, recipe.size, recipe.epochs, recipe.batch_size, recipe.learning_rate)
    assert found == ("densenet169", "imagenet", 320, 52, 8, 3e-4)
    assert (recipe.schedule, recipe.resize, recipe.chosen, recipe.standardise) == ("cosine", "pad", "last", True)
    assert set(recipes.RECIPES) == {"default", "probe", "light", *SOURCES}


def test_light_is_the_row_of_the_ablation_that_it_names():
    recipe, plan = recipes.options("light"), ablation_plans.LIGHT
    words = shlex.split(plan.base) + shlex.split(plan.rows["five-rate-3e-4"].stages[0])
    row = command_line.parse(words).options
    assert recipe.model_copy(update={"recipe": row.recipe}) == row


def test_every_recipe_can_be_built():
    for name in recipes.RECIPES:
        assert recipes.options(name).network in NETWORKS


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
