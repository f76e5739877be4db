"""Named settings of a training run: ours, the two earlier systems' and the MURA paper's.

A recipe is a plain record; `mura.py --recipe NAME` starts from it, and an option given on the command line beats it.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every setting that shapes a training run's result."""

    network: str  # a key of catalogue.NETWORKS
    weights: str  # none, imagenet, or a file
    size: int  # side of the square input, pixels
    resize: str  # pad: the long side fits and the rest is black; stretch: both sides are squeezed
    epochs: int
    batch_size: int  # views a step
    learning_rate: float  # Adam's, before the schedule
    schedule: str  # a key of training.trainer.SCHEDULES
    flip: bool  # mirror half of the training views left to right
    rotation: float  # turn training views by up to so many degrees either way
    class_weighted: bool  # weigh the loss so that both classes of a study type count the same
    # What follows the two earlier systems and the paper do without; 0 is none.
    standardise: bool = False  # bring each view to mean 0 and deviation 1 in the network
    statistics_views: int = 0  # training views that batch normalisation's statistics are taken from after each epoch
    shift: float = 0.0  # move training views by up to this share of their side
    zoom: float = 0.0  # enlarge or shrink training views by up to this share
    contrast: float = 0.0  # change training views' contrast by up to this share
    brightness: float = 0.0  # and brightness, by up to this share of white
    erasing: float = 0.0  # cover a random rectangle of this share of training views
    mixup: float = 0.0  # alpha of Beta(alpha, alpha), which two training views are mixed by
    label_smoothing: float = 0.0  # the labels become this / 2 and 1 - this / 2 in the loss
    weight_decay: float = 0.0  # AdamW's: kernels shrink by this share of the learning rate every step
    l2: float = 0.0  # the loss gains this times the sum of the kernels' squares
    ema: float = 0.0  # momentum of a moving average of the weights, which is scored and saved
    dropout: float = 0.0  # share of features dropped before the last unit
    chosen: str = "best"  # the epoch that best.h5 is of: best by the tuning AUROC, or last
    stochastic_depth: float = 0.0  # share of a dense layer's views whose new features are dropped
    accumulation: int = 1  # batches whose gradients are averaged for one change of the weights
    synchronised: bool = False  # batch normalisation over the views of all devices (TensorFlow; JAX does so anyway)
    flip_averaging: bool = False  # score a view by the mean of its probability and its mirror image's


SHARE = (float, "a number from 0 to below 1", lambda value: 0 <= value < 1)
NOT_NEGATIVE = (float, "a number, 0 or more", lambda value: 0 <= value < float("inf"))
SWITCH = (bool, "true or false", lambda value: True)
SCHEDULES = ("constant", "cosine", "steps", "plateau")  # what each does: training.trainer.SCHEDULES
# Settings without an option of their own: name -> (type, what it takes in words, whether a value of the type will do)
FREE = {
    "schedule": (str, "one of " + ", ".join(SCHEDULES), SCHEDULES.__contains__),
    "chosen": (str, "best or last", ("best", "last").__contains__),
    "flip": SWITCH,
    "rotation": (float, "degrees from 0 to 180", lambda value: 0 <= value <= 180),
    "class_weighted": SWITCH,
    "standardise": SWITCH,
    "flip_averaging": SWITCH,
    "synchronised": SWITCH,
    "statistics_views": (int, "a number of views, 0 or more", lambda value: value >= 0),
    **dict.fromkeys(
        ("shift", "zoom", "contrast", "brightness", "erasing", "label_smoothing", "ema", "dropout", "stochastic_depth"), SHARE
    ),
    **dict.fromkeys(("mixup", "weight_decay", "l2"), NOT_NEGATIVE),
}


def at_most(most, kind=int):
    """Rule of a number above 0."""
    what = "a whole number" if kind is int else "a number"
    return kind, f"{what} above 0 and at most {most:g}", lambda value: 0 < value <= most


# Every setting, for a run.json that somebody has edited, too.
RULES = {
    **FREE,
    "network": (str, "a name", lambda value: True),  # catalogue.NETWORKS knows which
    "weights": (str, "none, imagenet or a file", lambda value: True),
    "size": at_most(10**5),
    "resize": (str, "pad or stretch", ("pad", "stretch").__contains__),
    "epochs": at_most(10**6),
    "batch_size": at_most(10**6),
    "accumulation": at_most(10**4),
    "devices": at_most(10**4),  # an option of mura.py's own
    "learning_rate": at_most(1e38, float),
}


def check(settings):
    """Raise ValueError, which says what is expected, unless every value of {name: value} is one that its setting takes."""
    for name, (kind, expected, is_valid) in RULES.items():
        value = settings[name]
        kinds = (int, float) if kind is float else kind
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool) or not is_valid(value):
            raise ValueError(f"{name} is {value!r}, and takes {expected}")


def setting(text):
    """(name, value) of "name=value", for one of the settings in FREE.

    Raises: ValueError that says what is expected.
    """
    name, _, value = text.partition("=")
    if name not in FREE:
        raise ValueError(f"{text}: expected NAME=VALUE with one of {', '.join(FREE)}")
    kind, expected, is_valid = FREE[name]
    try:
        converted = {"true": True, "false": False}[value] if kind is bool else kind(value)
    except (KeyError, ValueError):
        converted = None
    if converted is None or not is_valid(converted):
        raise ValueError(f"{text}: {name} takes {expected}")
    return name, converted


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
    return Recipe(
        network="densenet169",
        weights="imagenet",
        size=320,
        resize="pad",
        epochs=52,
        batch_size=8,
        learning_rate=3e-4,
        schedule="cosine",
        flip=True,
        rotation=30,
        class_weighted=False,
        standardise=True,
        statistics_views=160,
        chosen="last",
    )


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
    return Recipe(
        network="densenet169_k12",
        weights="none",
        size=320,
        resize="stretch",
        epochs=52,
        batch_size=8,
        learning_rate=1e-3,
        schedule="steps",
        flip=True,
        rotation=30,
        class_weighted=False,
    )


def inception():
    """The second system: one trainable unit on a frozen InceptionV3 at 150 px.

    Source: a student repository that claims a held-out accuracy of 0.798; its settings as known to us.
    We differ on purpose:
    1. Views are read once into a cache of grey pixels; the copies for the three colour channels are made in the network.
    2. The best epoch is chosen on tuning patients taken out of train/, never on the held-out views.
    3. Where ImageNet's weights cannot be downloaded, `--weights none` runs the same code on random features: a check of the
       code, not of the system.
    """
    return Recipe(
        network="inception_v3",
        weights="imagenet",
        size=150,
        resize="stretch",
        epochs=30,
        batch_size=16,
        learning_rate=1e-3,
        schedule="constant",
        flip=False,
        rotation=0,
        class_weighted=False,
        dropout=0.3,
    )


def paper():
    """MURA's baseline: DenseNet-169 from ImageNet weights, learning rate divided by 10 when the tuning loss stalls.

    Source: Rajpurkar et al. 2018, MURA, arXiv 1712.06957, section 3.
    We differ on purpose:
    1. One network a run. The paper averages the five with the lowest validation loss; to do so, train five seeds.
    2. The tuning patients come out of train/. The paper's validation set is MURA's valid/, and its test set is not public.
    3. 52 epochs, as in our other recipes. The paper does not say how many.
    4. The threshold is fitted on tuning studies, and scores at 0.5, the paper's, stand beside.
    """
    return Recipe(
        network="densenet169",
        weights="imagenet",
        size=320,
        resize="stretch",
        epochs=52,
        batch_size=8,
        learning_rate=1e-4,
        schedule="plateau",
        flip=True,
        rotation=30,
        class_weighted=True,
    )


RECIPES = {recipe.__name__: recipe for recipe in (default, original, inception, paper)}
