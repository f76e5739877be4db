"""Shortcut audit: how scores change when features that should not matter (markers, borders, left and right) are changed.

A network that relies on a marker in a corner, or on a shutter, loses AUROC when corners are hidden; one that relies on bones
does not. Changes are applied to the stored image, before it is resized.
"""

import numpy as np
import pandas as pd
from PIL import Image  # pixels between arrays and files
from scipy import ndimage  # blur, holes, margin of a region
from skimage import filters, measure  # threshold, connected regions

from bones.data import images, sizes
from bones.data.phantoms import sets as phantom
from bones.data.pixels import load_pixels
from bones.evaluation.classifier import Classifier
from bones.evaluation.split import print_again, score_split
from bones.scores.metrics import auroc
from bones.scores.probabilities import decisions, study_probabilities
from bones.scores.report import changes
from bones.scores.text import UNKNOWN, as_text

CORNER = 0.2  # side of a hidden corner, as a share of the image's short side
BORDER = 0.08  # width of the hidden frame, as a share of the image's short side
LEVELS = 32  # of grey in the histogram: with more, a thin strip of saturated white is the peak of some images
MARGIN = 0.02  # kept around the limb, as a share of the image's long side


def find_limb(grey):
    """The largest region that differs from the background, with its holes filled and a margin.

    The background contains the most common grey level, dark or bright. The triangle method separates it from the rest. Unlike
    Otsu's, it detects soft tissue, whose grey level is closer to the background's than to bone's.

    Args:
        grey: (height, width) uint8.
    Returns: (limb, ground): (height, width) bool, and the background's median grey. Without contrast, all is limb.
    Source: Zack, Rogers and Latt 1977, doi:10.1177/25.7.70454.
    """
    blurred = ndimage.gaussian_filter(grey.astype(np.float32), max(grey.shape) / 200)
    if np.ptp(blurred) < 1:
        return np.ones(grey.shape, bool), int(np.median(grey))
    counts, edges = np.histogram(blurred, bins=LEVELS)
    threshold = filters.threshold_triangle(blurred, nbins=LEVELS)
    other = blurred > threshold if edges[np.argmax(counts)] < threshold else blurred <= threshold
    regions = measure.label(other)
    margin = round(BORDER * min(grey.shape))  # it may contain bright film edges: only the inside is searched
    inner = regions[margin:-margin, margin:-margin] if margin else regions
    largest = regions == np.argmax(np.bincount(inner.ravel(), minlength=2)[1:]) + 1
    reach = max(1, round(MARGIN * max(grey.shape)))
    limb = ndimage.binary_dilation(ndimage.binary_fill_holes(largest), iterations=reach)
    return limb, int(np.median(grey[~other]))


def hide_corners(grey):
    """Paint the four corners, where markers and burnt-in text are, with the background's grey."""
    changed, side, ground = grey.copy(), round(CORNER * min(grey.shape)), find_limb(grey)[1]
    for rows in (slice(None, side), slice(-side, None)):
        for columns in (slice(None, side), slice(-side, None)):
            changed[rows, columns] = ground
    return changed


def hide_borders(grey):
    """Paint a frame, where shutters, film edges and stickers are, with the background's grey."""
    width = max(1, round(BORDER * min(grey.shape)))
    changed = np.full_like(grey, find_limb(grey)[1])
    changed[width:-width, width:-width] = grey[width:-width, width:-width]
    return changed


def only_limb(grey):
    """Paint everything outside the limb with the background's grey."""
    limb, ground = find_limb(grey)
    return np.where(limb, grey, np.uint8(ground))


def mirror(grey):
    """Swap left and right."""
    return grey[:, ::-1].copy()


def invert(grey):
    """Swap black and white."""
    return 255 - grey


CHANGES = {
    "corners hidden": hide_corners,
    "borders hidden": hide_borders,
    "only the limb": only_limb,
    "mirrored": mirror,
    "inverted": invert,
}


def compare(name, before, after, threshold):
    """One row of the audit: how AUROC, probabilities and decisions of studies change.

    Args:
        before, after: predictions, one row per view, on the original and on the changed images.
    Returns: dict with change, AUROC, its difference with a paired 95 % interval, mean absolute change of probability, and the
        share of decisions that differ.
    """
    studies = [study_probabilities(table) for table in (before, after)]
    was, now = (table["probability"].to_numpy() for table in studies)
    moved = changes(before, after, threshold, ("auroc",))["auroc"]
    return {
        "change": name,
        "AUROC": round(auroc(studies[1]["label"], now), 3),
        "difference [95 % interval]": as_text(moved),
        "probability moves by": round(float(np.abs(now - was).mean()), 3),
        "decisions changed": round(float(np.mean(decisions(was, threshold) != decisions(now, threshold))), 3),
    }


def examples(films):
    """A contact sheet with one row per image: the original and each change."""
    changes = {"original": lambda grey: grey, **CHANGES}
    pictures = [Image.fromarray(change(np.asarray(film))) for film in films for change in changes.values()]
    return sizes.contact_sheet(pictures, [*changes] * len(films), columns=len(changes))


def show_audit(run, selection):
    """Print how scores change when images are changed in ways that should not matter, and draw examples.

    Args: see `score_split`.
    """
    classifier = Classifier(run)
    scored = score_split(run, classifier, selection)
    report, views, trained, rows = scored.report, scored.predictions, scored.record.options, []
    for name, change in CHANGES.items():
        _, pixels = load_pixels(views, trained.size, trained.resize, cache=None, transform=change)
        changed = views.assign(probability=classifier.predict(pixels))
        rows.append(compare(name, views, changed, report["threshold"]))
    table = pd.DataFrame(rows)
    print(f"{report['split']} studies of {', '.join(report['data'])}{phantom.mark(report['phantom'])}")
    if not report["has_patients"]:
        print(UNKNOWN)
    print(f"AUROC on unchanged images {as_text(report['studies']['auroc'])}\n")
    print(table.to_string(index=False))
    print("\nIf the AUROC falls when corners, borders or all but the limb are hidden, the network uses features there.")
    print("Mirroring and inverting show what it is invariant to. audit.png shows the changes.")
    run.write_csv("audit.csv", table)
    some = views["path"].iloc[np.unique(np.linspace(0, len(views) - 1, 4).astype(int))]
    run.write_image("audit.png", examples([images.read_grey(path) for path in some]))
    print(f"Wrote {run / 'audit.csv'} and audit.png.")
    print_again(run, selection, "--suspects", "20")
