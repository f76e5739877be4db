"""Findings of `data_loader.py --check`: counts of views, unreadable, duplicated or near-blank images, and label leaks."""

import hashlib
import os
from pathlib import Path

import pandas as pd
from sklearn import metrics  # AUROC of image mode and size

from bones.data import study_uids
from bones.data.duplicates import MOST, is_same, near_pairs, perceptual_hash, picture
from bones.data.images import CONTRAST, DARK, is_black, read
from bones.data.phantoms import sets as phantom
from bones.data.pixels import in_threads
from bones.data.roots import data_roots, have_study_folders, in_list, notes, paths_from_root
from bones.data.table import STUDY, root_of
from bones.data.views import survey
from bones.system.errors import NotARadiographError, UnreadableImageError
from bones.system.files import printable, whole_file

# MURA v1.1: views, studies, positive studies. Views: its train_image_paths.csv and valid_image_paths.csv; studies:
# Rajpurkar et al. 2018, arXiv 1712.06957, table 1.
MURA = {
    ("train", "XR_ELBOW"): (4931, 1754, 660),
    ("train", "XR_FINGER"): (5106, 1935, 655),
    ("train", "XR_FOREARM"): (1825, 877, 287),
    ("train", "XR_HAND"): (5543, 2018, 521),
    ("train", "XR_HUMERUS"): (1272, 592, 271),
    ("train", "XR_SHOULDER"): (8379, 2821, 1457),
    ("train", "XR_WRIST"): (9752, 3460, 1326),
    ("held-out", "XR_ELBOW"): (465, 158, 66),
    ("held-out", "XR_FINGER"): (461, 175, 83),
    ("held-out", "XR_FOREARM"): (301, 133, 64),
    ("held-out", "XR_HAND"): (460, 167, 66),
    ("held-out", "XR_HUMERUS"): (288, 135, 67),
    ("held-out", "XR_SHOULDER"): (563, 194, 95),
    ("held-out", "XR_WRIST"): (659, 237, 97),
}
# Of the humerus also patients and positive views, as counted in MURA v1.1's folders.
MURA_HUMERUS = {"train": (587, 599), "held-out": (132, 140)}
GIVES_AWAY = 0.6  # AUROC of the label from image mode or size alone, from which on it is reported as a leak
SHOWN = 10  # maximum lines of a note
EXAMINED = ["mode", "width", "height", "sha256", "hash", "contrast", "brightest", "bits", "depth", "notes", "reason", "other"]
LIMITS = "Other views of one examination cannot be found from pixels: only the source of the images knows who is one patient."


def check_root(source, study_types=("all",), labels=None, pairs=None):
    """Examine every view of a data root, or of several as one.

    Args:
        source: see `data_roots`.
        study_types, labels: see `survey`.
        pairs: file for a picture of the images that look alike in both splits or under both labels, or None.
    Returns: (report, wrong), see `check`; the report begins with the path.
    Raises: DataError when the path contains no data root, or the labels cannot be read.
    """
    roots = data_roots(source)
    views, faults = survey(source, study_types, labels)
    described = phantom.describe(source)
    in_mura_layout = have_study_folders(roots)
    report, wrong = check(roots, views, faults, mura=in_mura_layout and not described, pairs=pairs)
    opened = "".join(f"\nnote  {note}" for note in notes(roots))
    return f"{in_list(roots)}{phantom.mark(described)}{opened}\n\n{report}", wrong


def check(roots, views, faults, mura=True, pairs=None):
    """Examine every view.

    Args:
        roots: of `data_roots`; paths are printed from there on.
        views, faults: what `survey` found in it.
        mura: whether to print MURA's counts beside those found.
        pairs: file for the picture of `look_alikes`, or None.
    Returns: (report, wrong): text to print, and whether something in it would make training or its scores wrong.
    """
    images = examine(views).assign(path=paths_from_root(views, roots))
    findings = [
        ("WRONG", f"{len(faults)} layout errors", faults) if faults else None,
        *missing_parts(views, have_study_folders(roots)),
        unreadable(images),
        *duplicates(images),
        *study_uids.findings(images, views["path"]),
        *look_alikes(images, views["path"], pairs),
        patients_in_both(views),
        near_blank(images),
        near_black(images),
        *depths(images),
        *remarks(images),
    ]
    findings = [finding for finding in findings if finding]
    lines = [count_table(views[images["other"].isna().to_numpy()], mura), "", *label_leaks(images)]
    for kind, title, details in findings:
        shown = details if kind == "WRONG" else details[:SHOWN]  # what has to be corrected is listed completely
        lines += ["", f"{kind}  {title}", *(f"  {detail}" for detail in shown)]
        lines += [f"  ... and {len(details) - len(shown)} more"] * (len(details) > len(shown))
    wrong = sum(kind == "WRONG" for kind, _, _ in findings)
    verdict = f"{wrong} of these would make training or its scores wrong: correct what is marked WRONG."
    lines += ["", verdict if wrong else "Nothing was found that would make training wrong."]
    return "\n".join(lines), wrong > 0


def examine(views):
    """The views with columns on their files, see `examine_image`."""
    rows = list(in_threads(examine_image, views["path"], "Reading views"))
    return pd.concat([views, pd.DataFrame(rows, columns=EXAMINED)], axis=1)


def examine_image(path):
    """{name: value} of one image file, of EXAMINED: `reason` why it is not read, or `other`, what it is if no radiograph."""
    try:
        picture = read(path)
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except NotARadiographError as error:
        return {"other": str(error)}
    except (UnreadableImageError, OSError) as error:
        return {"reason": str(error)}
    return {
        **{"mode": picture.mode, "width": picture.grey.width, "height": picture.grey.height, "sha256": digest},
        **{"hash": perceptual_hash(picture.grey), "contrast": picture.contrast},
        **{"brightest": picture.brightest, "bits": picture.bits, "depth": picture.depth, "notes": picture.notes},
    }


# ---------------------------------------------------------------------------------------------------------------------
# Counts


def count_table(views, mura):
    """Counts by split and study type as text, with MURA v1.1's in brackets."""
    root = views["patient"].map(root_of).rename("root")
    rows = [
        count(part, name, split, study_type, mura_counts(split, [study_type] if mura else [None]))
        for (name, split, study_type), part in views.groupby([root, "split", "study_type"], sort=False)
    ]
    for split, part in views.groupby("split", sort=False):
        types = sorted(set(part["study_type"]))
        if len(types) > 1:
            rows.append(count(part, "all", split, "all", mura_counts(split, types if mura and len(types) == 7 else [None])))
    if not rows:
        return "No views were found."
    if not any(root):
        rows = [{name: cell for name, cell in row.items() if name != "root"} for row in rows]
    table = pd.DataFrame(rows).to_string(index=False)
    note = "\n(in brackets: MURA v1.1; other data may have other numbers; MURA with others is incomplete)"
    return table + note * ("(" in table)


def mura_counts(split, study_types):
    """MURA v1.1's counts of some study types, in the order of `count`; None where not known."""
    known = [MURA.get((split, name)) for name in study_types]
    if None in known:
        return [None] * 5
    views, studies, positive_studies = (sum(column) for column in zip(*known, strict=True))
    patients, positive_views = MURA_HUMERUS[split] if list(study_types) == ["XR_HUMERUS"] else (None, None)
    return [studies, patients, positive_studies, views, positive_views]


def count(part, root, split, study_type, known):
    """One row of the table of counts, with those that are known in brackets."""
    studies = part.drop_duplicates(STUDY)
    counts = {
        "studies": len(studies),
        "patients": part["patient"].nunique(),
        "positive studies": int(studies["label"].sum()),
        "views": len(part),
        "positive views": int(part["label"].sum()),
    }
    cells = {
        name: f"{found:,}" + (f" ({true:,})" if true is not None else "")
        for (name, found), true in zip(counts.items(), known, strict=True)
    }
    return {"root": root, "split": split, "study type": study_type, **cells}


def missing_parts(views, in_mura_layout):
    """Findings on splits that are absent, lack a label, or contain other study types."""
    for split, folder in (("train", "train/"), ("tuning", ""), ("held-out", "valid/")):
        part = views[views["split"] == split]
        if part.empty and split != "tuning":
            kind = "WRONG" if split == "train" else "note"
            yield kind, f"no {split} views" + f": {folder} is absent or empty" * in_mura_layout, []
        for study_type, typed in part.groupby("study_type"):
            if typed["label"].nunique() < 2:
                kind = "WRONG" if part["label"].nunique() < 2 else "note"
                name = "positive" if typed["label"].iloc[0] else "negative"
                yield kind, f"all {len(typed)} {split} views of {study_type} are {name}; scores need both labels", []
    types = views.groupby("study_type")["split"].unique()
    alone = [f"{study_type}, {splits[0]}" for study_type, splits in types.items() if len(splits) == 1]
    if alone and views["split"].nunique() > 1:
        yield "note", "study types in one split only", alone


# ---------------------------------------------------------------------------------------------------------------------
# Images


def unreadable(images):
    """Finding on images that cannot be decoded."""
    bad = images[images["reason"].notna()]
    details = [f"{printable(path)}   {reason}" for path, reason in zip(bad["path"], bad["reason"], strict=True)]
    return ("WRONG", f"{len(bad)} of {len(images)} images cannot be decoded", details) if details else None


def duplicates(images):
    """Findings on byte-identical images, by their consequence."""
    groups = images[images["sha256"].notna() & images.duplicated("sha256", keep=False)].groupby("sha256", sort=False)
    groups = groups.agg(
        labels=("label", "nunique"),
        splits=("split", "nunique"),
        patients=("patient", "nunique"),
        count=("path", "size"),
        paths=("path", " = ".join),
    )
    harmless = groups[(groups["labels"] == 1) & (groups["splits"] == 1)]
    for kind, found, where in (
        ("WRONG", groups[groups["labels"] > 1], "under different labels"),
        ("WRONG", groups[groups["splits"] > 1], "in several splits, where scores on them are not valid"),
        ("note", harmless[harmless["patients"] > 1], "of different patients, who may end up in training and in tuning"),
        ("note", harmless[harmless["patients"] == 1], "of one patient"),
    ):
        if len(found):
            yield kind, f"{found['count'].sum()} byte-identical images ({len(found)} groups) {where}", list(found["paths"])


def look_alikes(images, paths, file):
    """Findings on images that look alike in both splits or under both labels.

    Args:
        images: table of `examine`, whose paths are printed.
        paths: the images' paths.
        file: file for a picture of the pairs, or None.
    """
    clear = images.assign(name=images["path"], path=paths.to_numpy())
    clear = clear[clear["contrast"] >= CONTRAST].reset_index(drop=True)
    if len(clear) > MOST:
        yield "note", f"images that look alike were not searched for: {len(clear):,} are more than {MOST:,}", []
        return
    pairs = near_pairs(clear) if len(clear) else []
    names = [printable(name).replace(os.sep, "/") for name in clear["name"]]
    for column, what in (("split", "in two splits, where scores on them are not valid"), ("label", "under different labels")):
        apart = clear[column].to_numpy()
        differ = [pair for pair in pairs if apart[pair[0]] != apart[pair[1]]]
        for kind, certain, word in (("WRONG", True, "copies of one image"), ("note", False, "images that look alike")):
            found = [pair for pair in differ if is_same(pair) == certain]
            if found:
                details = [f"{names[i]} = {names[j]}   {bits} bits, correlation {near:.3f}" for i, j, bits, near in found]
                yield kind, f"{len(found)} pair{'s' * (len(found) > 1)} of {word} {what}", details
    if pairs and file:
        with whole_file(Path(file)) as partial:
            picture(clear["path"], names, pairs).save(partial, "PNG")
    drawn = f"; {file} shows them" if pairs and file else "; pass --pairs FILE.png to see them" if pairs else ""
    count = f"{len(pairs)} pair{'s look' if len(pairs) != 1 else ' looks'} alike in both splits or under both labels"
    yield "note", f"{count}{drawn}.\n  {LIMITS}", []


def near_blank(images):
    """Finding on images of very low contrast."""
    blank = images[images["contrast"] < CONTRAST]
    details = [f"{path}   contrast {value:.0f} of 255" for path, value in zip(blank["path"], blank["contrast"], strict=True)]
    return ("note", f"{len(blank)} near-blank images (contrast below {CONTRAST} grey levels)", details) if details else None


def near_black(images):
    """Finding on images that a wrong conversion left dark, such as one that kept the upper 8 of 16 bits."""
    black = images[images["brightest"].map(is_black).astype(bool)]
    details = [
        f"{path}   brightest level {top:.0f} of 255" for path, top in zip(black["path"], black["brightest"], strict=True)
    ]
    advice = "Convert the originals again, with their greatest value as white"
    return ("WRONG", f"{len(black)} near-black images (no level of {DARK} or more). {advice}", details) if details else None


def depths(images):
    """Findings on images of more than 8 bits: which value is white, and whether it is another in others."""
    deep = images[images["depth"] > 8]
    counts = deep["bits"].value_counts().sort_index()
    for bits, count in counts.items():
        if bits < 16:
            white = f"{2**bits - 1:,.0f}"
            yield "note", f"{count} images of 16 bits use {bits:.0f} of them and are shown so: {white} is white", []
    if len(counts) > 1:
        found = ", ".join(f"{count} of {bits:.0f} bits" for bits, count in counts.items())
        advice = "equal values have different brightness; save all with one white, as PNG with sBIT or of 8 bits"
        yield "note", f"images of 16 bits have different depths ({found}): {advice}", []


def remarks(images):
    """Findings on files that are no radiographs, and notes on images but for those on exposure, which have their own."""
    other = images[images["other"].notna()]
    details = [f"{printable(path)}   {what}" for path, what in zip(other["path"], other["other"], strict=True)]
    if details:
        yield "note", f"{len(other)} of {len(images)} files are no radiographs and are left out", details
    noted = images[images["notes"].notna()]
    details = [
        f"{printable(path)}   {note}"
        for path, notes in zip(noted["path"], noted["notes"], strict=True)
        for note in notes
        if not note.startswith("near-")
    ]
    if details:
        yield "note", f"{len(details)} remark{'s' * (len(details) > 1)} on images", details


def patients_in_both(views):
    """Finding on patients who are in several splits."""
    patients = views.groupby("patient")["split"].nunique()
    both = sorted(patients.index[patients > 1])
    return ("WRONG", f"{len(both)} patient{'s are' if len(both) > 1 else ' is'} in several splits", both) if both else None


def label_leaks(images):
    """Lines on image modes and sizes by label, and on how well they alone predict the label."""
    readable = images[images["mode"].notna()]
    if readable.empty or readable["label"].nunique() < 2:
        return ["Modes and sizes by label: too few readable images."]
    names = {0: "negative", 1: "positive"}
    modes = pd.crosstab(readable["mode"], readable["label"].map(names))
    sides = readable.assign(label=readable["label"].map(names), size=readable[["width", "height"]].max(axis=1))
    sizes = sides.groupby("label")[["width", "height"]].median().astype(int)
    lines = ["Images by mode and label", modes.to_string(), "", "Median size by label, pixels", sizes.to_string(), ""]
    share = readable.groupby("mode")["label"].transform("mean")
    ratio = readable["width"] / readable["height"].clip(lower=1)
    for what, value, remedy in (
        ("mode", share, "all images become grey before training, which removes it"),
        ("long side", sides["size"], "all images get the same long side, which removes it"),
        ("aspect ratio", ratio, "--resize stretch removes it, --resize pad shows it"),
    ):
        auroc = metrics.roc_auc_score(readable["label"], value)
        auroc = max(auroc, 1 - auroc)
        advice = f": label leak; {remedy}" if auroc >= GIVES_AWAY else ""
        lines.append(f"An image's {what} alone predicts its label with AUROC {auroc:.3f}{advice}.")
    return lines
