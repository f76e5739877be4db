"""Named settings of a training run: the default, the two earlier systems and the MURA paper.

A recipe gives values to some fields of Options; `mura.py --recipe NAME` starts from it, and the command line overrides it.
"""

from bones.runs.options import Options


def default():
    """DenseNet-169 at MURA's size with cosine decay: the recommended recipe.

    Source: the MURA baseline (see `paper`), changed for the reasons below. Rows are those of docs/recipe.md: of
    EfficientNet-Lite0 on radiographs, or of DenseNet-169 from random weights on phantoms. None is of DenseNet-169 from
    ImageNet's weights.
    1. Each view is normalised to mean 0 and standard deviation 1 in the network: exposures differ between machines
       (rows frozen and frozen-constant of radiographs, standardise of phantoms).
    2. The last epoch is kept: the best of many epochs on a hundred tuning patients depends mostly on chance (row best-epoch).
    3. Batch statistics are re-estimated on 160 views without augmentation, so that they do not depend on the last few batches
       (row moving-statistics of phantoms: no difference beyond chance).
    4. Cosine decay replaces the plateau, whose timing depends on a noisy tuning loss (row plateau of phantoms).
    5. The learning rate is 3e-4 (rows five-rate-3e-4 of radiographs, rate-1e-4 and rate-1e-3 of phantoms), the size MURA's
       320 px (rows five-448-px and frozen-448 of radiographs: nothing gained by more).
    6. No class weights, which would shift the probabilities.
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
    """The first system: a narrow DenseNet of 1.2 million parameters on humerus views stretched to 320 px.

    Source: https://github.com/ag-piyush/Bone-Fracture-Detection---MURA (mura.py, densenet.py, data_loader.py, model_test.py).
    Differences:
    1. Flips are applied. The original computes the flipped view and discards it (`iamge = cv2.flip(image, 1)`).
    2. Only training views are rotated. The original rotates validation and test views at random too.
    3. Grey is scaled by a constant, 0-255 to -1 to 1. The original normalises each batch by its mean and standard deviation, so
       that a view's probability depends on the other views of the batch.
    4. An unreadable view stops the run, or is skipped with its label. The original skips the view and keeps the label, which
       gives every later view of the batch the label of another.
    5. best.h5 is of the last epoch, which the original's model_test.py loads. Its rule of the best epoch is not reproduced: of
       the first 14 epochs (`e <= int(0.25 * nb_epoch)|...` is true of these alone), those with the lowest loss and the highest
       accuracy so far on MURA's valid/ folder, which it then reports.
    6. Every training view is rotated by a uniform angle. The original rotates half of them by a whole number of degrees.
    7. Batches have 8 views; the remainder is skipped for the epoch. The original distributes it, so that some batches have 9.
    8. Adam's epsilon is Keras's 1e-7. The original has 1e-8.
    9. The threshold is fitted on tuning studies; scores at 0.5, the original's, are reported too.
    10. A tenth of the patients of train/ is held out for tuning. The original trains on all of train/.
    11. Scores are of studies, beside those of views. The original scores views.
    12. Where the processor has bfloat16, the network computes in it; `--precision float32` is the original's.
    """
    return {
        "network": "densenet169_k12",
        "weights": "none",
        "size": 320,
        "resize": "stretch_linear",
        "epochs": 52,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "schedule": "steps",
        "flip": True,
        "rotation": 30.0,
        "class_weighted": False,
        "chosen": "last",
    }


def inception():
    """The second system: a trainable output unit on a frozen InceptionV3 at 150 px.

    Source: https://github.com/alitourani/ci-class-9802, 12-bone-fracture-detection/bone_fracture_detection.py, which claims a
    held-out accuracy of 0.798.
    Differences:
    1. The output unit sees the 2,048 pooled features of keras.applications. The source puts it on the 1,001 logits of TF-Hub's
       inception_v3 classification 4, so it has 1,002 trainable weights in place of 2,049, and other ImageNet weights.
    2. Views are grey, copied to three channels. The source reads them in colour, which most of MURA's views do not have.
    3. A tenth of the patients of train/ is held out for tuning. The source trains on all 1,272 humerus views.
    4. The threshold is fitted on tuning studies; scores at 0.5, the source's, are reported too.
    5. History is a CSV file. The source writes JSON.
    6. The tuning loss is of all tuning views. The source validates on 18 batches of valid/.
    7. Where the processor has bfloat16, the network computes in it; `--precision float32` is the source's.
    8. ImageNet's weights are a download, and were not at hand: no score of this recipe with them is in this repository. Where
       they cannot be downloaded, `--weights none` runs the same code on random features, which tests the code, not the system.
    """
    return {
        "network": "inception_v3",
        "weights": "imagenet",
        "size": 150,
        "resize": "stretch_nearest",
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "flip": False,
        "rotation": 0.0,
        "class_weighted": False,
        "dropout": 0.3,
        "chosen": "last",
    }


def paper():
    """MURA's baseline: DenseNet-169 from ImageNet weights, learning rate divided by 10 when the tuning loss stalls.

    Source: Rajpurkar et al. 2018, MURA, arXiv 1712.06957, section 3. Its code is not public.
    Differences:
    1. One network per run. The paper averages the five with the lowest validation loss; `model_test.py` averages five seeds.
    2. The tuning patients are from train/. The paper's validation set is MURA's valid/, and its test set is not public.
    3. 52 epochs, as in `default` and `original`. The paper does not give the number.
    4. The threshold is fitted on tuning studies; scores at 0.5, the paper's, are reported too.
    5. A view is stretched to 320 x 320 px and then normalised to mean 0 and standard deviation 1 in the network. The paper
       first normalises each image to the mean and standard deviation of ImageNet's, for a network that expects these, and then
       scales it.
    6. The loss stalls when it does not fall for one epoch. The paper does not define a plateau.
    7. Where the processor has bfloat16, the network computes in it; `--precision float32` is the paper's.
    """
    return {
        "study_type": ("all",),
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
        "standardise": True,
        "chosen": "lowest_loss",
    }


def probe():
    """EfficientNet-Lite0 as it is, with a fitted output layer: a minute on two cores.

    Source: Tan and Le 2019, arXiv 1905.11946, for the network; docs/recipe.md says what was measured.
    """
    return {
        "network": "efficientnet_lite0",
        "weights": "imagenet",
        "size": 320,
        "resize": "pad",
        "epochs": 0,
        "batch_size": 16,
        "learning_rate": 1e-4,
        "precision": "float32",
        "schedule": "cosine",
        "flip": True,
        "rotation": 10.0,
        "shift": 0.04,
        "zoom": 0.05,
        "class_weighted": False,
        "standardise": True,
        "chosen": "last",
    }


def light():
    """EfficientNet-Lite0 from ImageNet's weights, trained above its first five blocks: less than half an hour on two cores.

    Settings were chosen on folds of FracAtlas's training patients: docs/recipe.md, rows of docs/records/light. Of these, one
    seed each: 10 epochs in place of 5 (row five-10-epochs against frozen-5-blocks), and 3e-4 in place of 1e-4
    (five-rate-3e-4). Five frozen blocks halve the time (base against five-10-epochs: no difference); so does 320 px in place
    of 448 (five-448-px: none). The other settings are those of `default` or of every row, and were not compared.
    """
    return {
        **probe(),
        "epochs": 10,
        "learning_rate": 3e-4,
        "frozen": 5,
        "statistics_views": 160,
    }


RECIPES = {recipe.__name__: recipe for recipe in (default, original, inception, paper, probe, light)}


def options(name, **given):
    """Options of a recipe, with the given values overridden. Raises: pydantic.ValidationError."""
    return Options.model_validate({**RECIPES[name](), "recipe": name, **given})
