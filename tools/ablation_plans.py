"""The studies of tools/ablation.py: a base, and rows that change one setting of it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a study."""

    stages: tuple = ("",)  # arguments added to the base's command; of several, each starts from the weights of the one before
    against: str | None = "base"  # row that it is compared with
    trained_as: str | None = None  # row that it differs from in scoring alone, so that its training is reused
    recorded_as: str | None = None  # row whose recorded probabilities it uses
    stretched: bool = False  # on images whose darkest and brightest 1 % are black and white
    also: bool = False  # on the images of --also, too
    maximum: bool = False  # a study's probability is the maximum over its views, not the mean
    study_type: str | None = None  # scored on this study type alone


@dataclasses.dataclass(frozen=True)
class Ablation:
    """One study."""

    base: str  # arguments of mura.py for all rows
    rows: dict

    def settings(self, row):
        """Training settings of a row as text."""
        return f"{self.base}; " + "; then ".join(self.rows[row].stages)


def added(arguments, **more):
    """A row that adds arguments to the base's command."""
    return Row((arguments,), **more)


DENSENET = Ablation(
    "--weights none --size 64 --epochs 12 --set chosen=last statistics_views=160 standardise=false",
    {
        "base": Row(against=None),
        "moving-statistics": added("--set statistics_views=0"),
        "standardise": added("--set standardise=true"),
        "ema": added("--set ema=0.99"),
        "plateau": added("--set schedule=plateau"),
        "rate-1e-4": added("--learning-rate 1e-4"),
        "rate-1e-3": added("--learning-rate 1e-3"),
        "adamw": added("--set weight_decay=0.05"),
        "l2": added("--set l2=1e-4"),
        "label-smoothing": added("--set label_smoothing=0.1"),
        "mixup": added("--set mixup=0.2"),
        "erasing": added("--set erasing=0.5"),
        "weaker-geometry": added("--set rotation=10"),
        "stronger-geometry": added("--set rotation=30 shift=0.1 zoom=0.2"),
        "exposure": added("--set contrast=0.3 brightness=0.1"),
        "batch-16": added("--batch-size 16"),
        "batch-32": added("--batch-size 32"),
        "dropout": added("--set dropout=0.5"),
        "stochastic-depth": added("--set stochastic_depth=0.1"),
        "128-px": added("--size 128"),
        "progressive": Row(("--epochs 8", "--size 96 --epochs 4")),
        "longer": added("--epochs 24"),
        "class-weights": added("--set class_weighted=true"),
        "contrast-stretch": Row(stretched=True),
        "best-epoch": added("--set chosen=best"),
        "flip-averaging": added("--set flip_averaging=true", trained_as="base"),
        "hand-alone": added("--study-type XR_HAND", against=None),
        "hand-from-all": Row(("", "--study-type XR_HAND --epochs 4"), against="hand-alone"),
    },
)

LIGHT = Ablation(
    "--network efficientnet_lite0 --weights imagenet --size 320 --epochs 5 --batch-size 16 --learning-rate 1e-4 --precision "
    "float32 --set schedule=cosine chosen=last standardise=true rotation=10 shift=0.04 zoom=0.05 statistics_views=160",
    {
        # Frozen features and a fitted output layer.
        "frozen": added("--epochs 0", against=None),
        "frozen-224": added("--epochs 0 --size 224", against="frozen"),
        "frozen-448": added("--epochs 0 --size 448", against="frozen"),
        "frozen-avg-max": added("--epochs 0 --set pooling=avg_max", against="frozen"),
        "frozen-constant": added("--epochs 0 --set standardise=false", against="frozen"),
        "frozen-also": added("--epochs 0", against="frozen", also=True),
        "frozen-448-also": added("--epochs 0 --size 448", against="frozen-448", also=True),
        # All layers.
        "base": Row(against="frozen"),
        "448-px": added("--size 448"),
        "10-epochs": added("--epochs 10"),
        "20-epochs": added("--epochs 20"),
        "rate-3e-5": added("--learning-rate 3e-5"),
        "rate-3e-4": added("--learning-rate 3e-4"),
        "head-first": added("--set head_first=true"),
        "frozen-norm": added("--set frozen_normalisation=true"),
        "frozen-norm-head-first": added("--set frozen_normalisation=true head_first=true", against="frozen-norm"),
        "frozen-norm-10-epochs": added(
            "--epochs 10 --set frozen_normalisation=true head_first=true", against="frozen-norm-head-first"
        ),
        "frozen-norm-rate-3e-4": added(
            "--learning-rate 3e-4 --set frozen_normalisation=true head_first=true", against="frozen-norm-head-first"
        ),
        "frozen-norm-rate-3e-5": added(
            "--learning-rate 3e-5 --set frozen_normalisation=true head_first=true", against="frozen-norm-head-first"
        ),
        "frozen-5-blocks": added("--set frozen=5"),
        "frozen-9-blocks": added("--set frozen=9"),
        # With the first five blocks frozen, which halves the time.
        "five-10-epochs": added("--epochs 10 --set frozen=5", against="frozen-5-blocks"),
        "five-20-epochs": added("--epochs 20 --set frozen=5", against="five-10-epochs"),
        "five-rate-3e-4": added("--epochs 10 --learning-rate 3e-4 --set frozen=5", against="five-10-epochs"),
        "five-448-px": added("--epochs 10 --size 448 --set frozen=5", against="five-10-epochs"),
        "five-also": added("--epochs 5 --set frozen=5", against="frozen-5-blocks", also=True),
        "five-also-rate-3e-4": added("--epochs 5 --learning-rate 3e-4 --set frozen=5", against="five-also", also=True),
        "five-geometry": added("--epochs 10 --set frozen=5 rotation=30 shift=0.1 zoom=0.2", against="five-10-epochs"),
        "five-mixup": added("--epochs 10 --set frozen=5 mixup=0.2", against="five-10-epochs"),
        "five-dropout": added("--epochs 10 --set frozen=5 dropout=0.3", against="five-10-epochs"),
        "five-ema": added("--epochs 10 --set frozen=5 ema=0.99", against="five-10-epochs"),
        "five-avg-max": added("--epochs 10 --set frozen=5 pooling=avg_max", against="five-10-epochs"),
        "five-norm": added("--epochs 10 --set frozen=5 frozen_normalisation=true head_first=true", against="five-10-epochs"),
        "moving-statistics": added("--set statistics_views=0"),
        "constant": added("--set standardise=false"),
        "stronger-geometry": added("--set rotation=30"),
        "avg-max": added("--set pooling=avg_max"),
        "dropout": added("--set dropout=0.3"),
        "mixup": added("--set mixup=0.2"),
        "ema": added("--set ema=0.99"),
        "also": Row(also=True),
        "view-maximum": Row(recorded_as="base", maximum=True),
        "hand-from-all-types": Row(against=None, recorded_as="base", study_type="XR_HAND"),
        "hand-alone": added("--study-type XR_HAND", against="hand-from-all-types", study_type="XR_HAND"),
    },
)

PLANS = {"densenet": DENSENET, "light": LIGHT}
