"""Shortcut audit: how far scores move when what should not matter is hidden or changed: markers, borders, left and right.

A network that reads a marker in a corner, or a shutter, loses AUROC when corners are hidden; one that looks at bones does not.
Changes are made on the film as it is stored, before it is resized.
"""

import numpy as np
import pandas as pd
from PIL import Image  # pixels between arrays and files
from scipy import ndimage  # blur, holes, margin of a region
from skimage import filters, measure  # threshold, connected regions

from bones.data import images
from bones.data.phantoms import sets as phantom
from bones.data.pixels import load_pixels
from bones.evaluation.classifier import Classifier
from bones.evaluation.split import print_again, score_split
from bones.scores.metrics import auroc
from bones.scores.probabilities import decisions, study_probabilities
from bones.scores.report import differences
from bones.scores.text import as_text

CORNER = 0.2  # side of a hidden corner, share of the film's short side
BORDER = 0.08  # width of the hidden frame, share of the film's short side
LEVELS = 32  # of grey in the histogram: with more, a thin strip of saturated white is its peak on some films
MARGIN = 0.02  # kept around the limb, share of the film's long side


def find_limb(grey):
    """The largest region that differs from the ground, with its holes filled and a margin.

    The ground is what the most common grey belongs to, dark or bright. The triangle method parts it from the rest; unlike
    Otsu's it finds soft tissue, whose grey lies nearer to the ground's than to bone's.

    Args:
        grey: (height, width) uint8.
    Returns: (limb, ground): (height, width) bool, and the ground's median grey. The limb is all where nothing differs.
    Source: Zack, Rogers and Latt 1977, doi:10.1177/25.7.70454.
    """
    blurred = ndimage.gaussian_filter(grey.astype(np.float32), max(grey.shape) / 200)
    if np.ptp(blurred) < 1:
        return np.ones(grey.shape, bool), int(np.median(grey))
    counts, edges = np.histogram(blurred, bins=LEVELS)
    threshold = filters.threshold_triangle(blurred, nbins=LEVELS)
    other = blurred > threshold if edges[np.argmax(counts)] < threshold else blurred <= threshold
    regions = measure.label(other)
    margin = round(BORDER * min(grey.shape))  # bright film edges lie there: only what lies inside counts
    inner = regions[margin:-margin, margin:-margin] if margin else regions
    largest = regions == np.argmax(np.bincount(inner.ravel(), minlength=2)[1:]) + 1
    reach = max(1, round(MARGIN * max(grey.shape)))
    limb = ndimage.binary_dilation(ndimage.binary_fill_holes(largest), iterations=reach)
    return limb, int(np.median(grey[~other]))


def hide_corners(grey):
    """The four corners painted over with the ground's grey: markers and burnt-in text stand there."""
    changed, side, ground = grey.copy(), round(CORNER * min(grey.shape)), find_limb(grey)[1]
    for rows in (slice(None, side), slice(-side, None)):
        for columns in (slice(None, side), slice(-side, None)):
            changed[rows, columns] = ground
    return changed


def hide_borders(grey):
    """A frame painted over with the ground's grey: shutters, film edges and stickers show there."""
    width = max(1, round(BORDER * min(grey.shape)))
    changed = np.full_like(grey, find_limb(grey)[1])
    changed[width:-width, width:-width] = grey[width:-width, width:-width]
    return changed


def only_limb(grey):
    """All outside the largest limb region painted over with the ground's grey."""
    limb, ground = find_limb(grey)
    return np.where(limb, grey, np.uint8(ground))


def mirror(grey):
    """Left and right exchanged."""
    return grey[:, ::-1].copy()


def invert(grey):
    """Black and white exchanged."""
    return 255 - grey


CHANGES = {
    "corners hidden": hide_corners,
    "borders hidden": hide_borders,
    "only the limb": only_limb,
    "mirrored": mirror,
    "inverted": invert,
}


def compare(name, before, after, threshold):
    """One row of the audit: how far AUROC, probabilities and decisions of studies move.

    Args:
        before, after: predictions, one row a view, on films as they are and as changed.
    Returns: dict with change, AUROC, its difference with a paired 95 % interval, mean absolute change of probability, and the
        share of decisions that change.
    """
    studies = [study_probabilities(table) for table in (before, after)]
    was, now = (table["probability"].to_numpy() for table in studies)
    moved = differences([(before, threshold)], [(after, threshold)], ("auroc",))["auroc"]
    return {
        "change": name,
        "AUROC": round(auroc(studies[1]["label"], now), 3),
        "difference [95 % interval]": as_text(moved),
        "probability moves by": round(float(np.abs(now - was).mean()), 3),
        "decisions changed": round(float(np.mean(decisions(was, threshold) != decisions(now, threshold))), 3),
    }


def examples(films):
    """A contact sheet: a row a film, as it is and with each change."""
    changes = {"film": lambda grey: grey, **CHANGES}
    pictures = [Image.fromarray(change(np.asarray(film))) for film in films for change in changes.values()]
    return images.contact_sheet(pictures, [*changes] * len(films), columns=len(changes))


def show_audit(run, selection):
    """Print how far scores move when films are changed in ways that should not matter, and draw examples.

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
    run.write_csv("audit.csv", table)
    some = views["path"].iloc[np.unique(np.linspace(0, len(views) - 1, 4).astype(int))]
    run.write_image("audit.png", examples([images.read_grey(path) for path in some]))
    print(f"{report['split']} studies of {report['data']}{phantom.mark(report['phantom'])}")
    print(f"AUROC as they are {as_text(report['studies']['auroc'])}\n")
    print(table.to_string(index=False))
    print("\nIf the AUROC falls when corners, borders or all but the limb are hidden, the network reads something there.")
    print("Mirroring and inverting show what it has learned not to mind. audit.png shows the changes.")
    print(f"Wrote {run / 'audit.csv'} and audit.png.")
    print_again(run, selection, "--suspects", "20")
