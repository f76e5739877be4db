"""Named settings of a training run: ours, the two earlier systems' and the MURA paper's.

A recipe gives values to some fields of Options; `mura.py --recipe NAME` starts from it, and what is given on the command line
beats it.
"""

from bones.runs.options import Options


def default():
    """DenseNet-169 at MURA's size with cosine decay: the recipe to use.

    Source: the MURA baseline (see `paper`) with, row by row of docs/recipe.md:
    1. Each view is brought to mean 0 and deviation 1 in the network (`standardise`): films differ in exposure.
    2. The last epoch is kept, not the best by a hundred tuning patients (`best-epoch`), which is mostly the luckiest.
    3. Batch statistics are taken again from 160 views as they are (`moving-statistics`).
    4. Cosine decay in place of the plateau, whose moment hangs on a noisy tuning loss (`plateau`).
    5. No class weights, so that a probability means what it says. 3e-4: on phantoms from random weights, two epochs at 1e-3
       had learned little where two at 3e-4 had learned most.
    """
    return {
        "network": "densenet169",
        "weights": "imagenet",
        "size": 320,
        "resize": "pad",
        "epochs": 52,
        "batch_size": 8,
        "learning_rate": 3e-4,
        "schedule": "cosine",
        "flip": True,
        "rotation": 30.0,
        "class_weighted": False,
        "standardise": True,
        "statistics_views": 160,
        "chosen": "last",
    }


def original():
    """The first system: a narrow DenseNet of 1.2 million parameters on humerus views squeezed to 320 px.

    Source: https://github.com/ag-piyush/Bone-Fracture-Detection---MURA (mura.py, densenet.py, data_loader.py).
    We differ on purpose, each because the original does not do what it says or tells more than it knows:
    1. Flips happen. The original computes the flipped view and throws it away (`iamge = cv2.flip(image, 1)`).
    2. Only training views are turned. The original turns validation and test views at random too.
    3. Grey is scaled by a constant, 0-255 to -1 to 1. The original divides each batch by its own mean and deviation, so that a
       view's probability depends on its neighbours in the batch.
    4. An unreadable view stops the run, or is left out with its label. The original drops the view and keeps the label, which
       gives every later view of the batch the label of another.
    5. The best epoch is the one with the highest tuning AUROC, on patients taken out of train/. The original chooses it on
       MURA's valid/ folder, which it then reports.
    6. Every training view is turned by a uniform angle. The original turns half of them by a whole number of degrees.
    7. Batches hold 8 views; the few left over sit the epoch out. The original spreads them, so that some batches hold 9.
    8. Adam's epsilon is Keras's 1e-7. The original has 1e-8.
    9. The threshold is fitted on tuning studies, and scores at 0.5, the original's, stand beside.
    """
    return {
        "network": "densenet169_k12",
        "weights": "none",
        "size": 320,
        "resize": "stretch",
        "epochs": 52,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "schedule": "steps",
        "flip": True,
        "rotation": 30.0,
        "class_weighted": False,
    }


def inception():
    """The second system: one trainable unit on a frozen InceptionV3 at 150 px.

    Source: a student repository that claims a held-out accuracy of 0.798; its settings as known to us.
    We differ on purpose:
    1. Views are read once into a cache of grey pixels; the copies for the three colour channels are made in the network.
    2. The best epoch is chosen on tuning patients taken out of train/, never on the held-out views.
    3. Where ImageNet's weights cannot be downloaded, `--weights none` runs the same code on random features: a check of the
       code, not of the system.
    """
    return {
        "network": "inception_v3",
        "weights": "imagenet",
        "size": 150,
        "resize": "stretch",
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "flip": False,
        "rotation": 0.0,
        "class_weighted": False,
        "dropout": 0.3,
    }


def paper():
    """MURA's baseline: DenseNet-169 from ImageNet weights, learning rate divided by 10 when the tuning loss stalls.

    Source: Rajpurkar et al. 2018, MURA, arXiv 1712.06957, section 3.
    We differ on purpose:
    1. One network a run. The paper averages the five with the lowest validation loss; to do so, train five seeds.
    2. The tuning patients come out of train/. The paper's validation set is MURA's valid/, and its test set is not public.
    3. 52 epochs, as in our other recipes. The paper does not say how many.
    4. The threshold is fitted on tuning studies, and scores at 0.5, the paper's, stand beside.
    """
    return {
        "network": "densenet169",
        "weights": "imagenet",
        "size": 320,
        "resize": "stretch",
        "epochs": 52,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "schedule": "plateau",
        "flip": True,
        "rotation": 30.0,
        "class_weighted": True,
    }


RECIPES = {recipe.__name__: recipe for recipe in (default, original, inception, paper)}


def options(name, **given):
    """Options of a recipe, with other values where these are given. Raises: pydantic.ValidationError."""
    return Options.model_validate({**RECIPES[name](), "recipe": name, **given})
