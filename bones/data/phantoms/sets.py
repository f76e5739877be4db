"""Phantom data roots: synthetic upper-arm radiographs in MURA's layout, to run all programs where MURA is not available.

Positive studies have a fracture (transverse, oblique, spiral or displaced) or hardware (plate and screws, nail). All else
(anatomy, framing, exposure, markers, borders, inversion, colour mode) is drawn independently of the label. `truth.csv` beside
train/ and valid/ lists what was drawn where. Results on phantoms show that the code works; they show nothing about patients.
"""

import json
from pathlib import Path

import joblib  # drawing on all cores
import numpy as np
import pandas as pd
from PIL import Image  # markers, PNG files
from tqdm import tqdm  # progress bar

from bones.data import images, sizes
from bones.data.phantoms.anatomy import draw_arm
from bones.data.phantoms.films import draw_film, draw_framing
from bones.data.phantoms.injuries import KINDS, Injury, draw_injury
from bones.data.roots import data_roots
from bones.system import files
from bones.system.errors import DataError, PhantomError

VERSION = 1  # of the drawing; increase it when images of the same seed change
STUDY_TYPE = "XR_HUMERUS"
NOTE = "PHANTOM.json"  # marks a data root as phantoms, and records its options
TRUTH_COLUMNS = ["path", "label", "kind", "left", "top", "right", "bottom"]
TRUTH_COLUMNS += ["mode", "width", "height", "border", "marker", "inverted"]
# Minimum and maximum of the options of a set.
RANGES = {"train_studies": (2, 10**6), "held_out_studies": (0, 10**6), "size": (32, 4096)}
RANGES |= {"severity": (0, 10), "zoom": (0.2, 10), "seed": (0, 2**31)}


def draw_study(root, folder, patient, study, label, kind, size, severity, zoom, seed):
    """Draw one study's views into `root`. Returns: rows of truth.csv."""
    # Two random streams, so that the label does not affect what must be independent of it.
    neutral = np.random.default_rng([seed, patient, study, 0])
    arm = draw_arm(np.random.default_rng([seed, patient]))
    place, side = neutral.uniform(0.16, 0.84) * arm.length, str(neutral.choice(["L", "R"]))
    framings = [
        draw_framing(arm, place, side, size, zoom, neutral)
        for _ in range(neutral.choice([1, 2, 3, 4], p=[0.2, 0.55, 0.17, 0.08]))
    ]
    injury = (
        draw_injury(kind, place, arm, severity, np.random.default_rng([seed, patient, study, 1]))
        if label
        else Injury("none", place)
    )
    name = f"{folder}/{STUDY_TYPE}/patient{patient:05d}/study{study}_{'positive' if label else 'negative'}"
    (Path(root) / name).mkdir(parents=True)
    rows = []
    for view, framing in enumerate(framings, start=1):
        grey, box = draw_film(arm, injury, framing)
        path = f"{name}/image{view}.png"
        Image.fromarray(grey).convert(framing.mode).save(Path(root) / path)
        notes = framing.mode, framing.width, framing.height, framing.field is not None, framing.marker, framing.inverted
        rows.append((path, label, injury.kind, *(box or (None,) * 4), *notes))
    return rows


def plan(train_studies, held_out_studies, seed):
    """[(folder, patient, study, label, kind)] of all studies. Half are positive, one patient in twelve has two studies."""
    rng = np.random.default_rng(seed)
    studies, patient = [], 0
    for folder, count in (("train", train_studies), ("valid", held_out_studies)):
        labels = rng.permutation(np.arange(count) % 2)
        kinds = rng.permutation(np.resize(KINDS, count))
        second = False
        for label, kind in zip(labels.tolist(), kinds.tolist(), strict=True):
            second = not second and bool(studies) and studies[-1][0] == folder and rng.random() < 1 / 12
            patient += not second
            studies.append((folder, patient, 2 if second else 1, label, kind))
    return studies


def draw_set(out, train_studies=400, held_out_studies=120, size=512, severity=1.0, zoom=1.0, seed=0):
    """Draw a data root.

    Args:
        out: folder to create; it must not exist.
        train_studies, held_out_studies: how many; about 2.1 views each, half of the studies positive.
        size: long side of an image, pixels.
        severity: factor on gaps of fractures, and up to 1.5 on shifts and angles: below 1 they are harder to see.
        zoom: above 1 an image shows less of the arm, and abnormalities are larger in it.
        seed: the same seed and options give the same pixels.
    Returns: pandas.DataFrame, truth.csv.
    Raises: PhantomError when `out` exists.
    """
    out = Path(out)
    if out.exists():
        raise PhantomError(f"{out} exists; phantoms are drawn into a new folder. Remove it, or pass another --out.")
    options = {"train_studies": train_studies, "held_out_studies": held_out_studies, "size": size, "severity": severity}
    options |= {"zoom": zoom, "seed": seed}
    for name, (least, most) in RANGES.items():
        if not least <= options[name] <= most:
            raise PhantomError(f"{name.replace('_', ' ')} is {options[name]}; expected {least} to {most:,}.")
    studies = plan(train_studies, held_out_studies, seed)
    with files.whole_folder(out) as partial:
        # An absolute path: workers are reused between calls, and keep their working directory.
        jobs = (joblib.delayed(draw_study)(str(partial.absolute()), *study, size, severity, zoom, seed) for study in studies)
        drawn = joblib.Parallel(n_jobs=-1, return_as="generator")(jobs)
        drawn = tqdm(drawn, total=len(studies), desc="Drawing phantoms", unit="study", disable=None)
        truth = pd.DataFrame([row for study in drawn for row in study], columns=TRUTH_COLUMNS)
        truth.to_csv(partial / "truth.csv", index=False)
        (partial / NOTE).write_text(json.dumps({"version": VERSION, **options}, indent=2) + "\n")
    return truth


def contact_sheet(root, file, columns=6, side=200):
    """Draw two images of each kind of injury and as many without, side by side, into one image.

    Args:
        root: a phantom data root.
        file: .png to write.
        columns: images a row.
        side: pixels of the square that an image is fitted into.
    """
    truth = pd.read_csv(Path(root) / "truth.csv")
    rows = [truth[truth["kind"] == kind].head(2) for kind in KINDS]
    rows.append(truth[truth["kind"] == "none"].head(2 * len(KINDS)))
    films = pd.concat(rows)
    paths = [Path(root) / path for path in films["path"]]
    sizes.contact_sheet([images.read_grey(path) for path in paths], films["kind"], columns, side).save(file)


def describe(roots):
    """One line on the phantoms in data roots, see `data_roots`; None where all are others."""
    notes = [root.folder / NOTE for root in data_roots(roots).values() if (root.folder / NOTE).is_file()]
    found = [", ".join(f"{name} {value}" for name, value in json.loads(note.read_text()).items()) for note in notes]
    return "phantom, " + "; ".join(found) if found else None


def mark(described):
    """The mark after the name of a data root in printed lines, from the result of `describe`."""
    return " (PHANTOMS)" if described else ""


def truth(root):
    """Path of the table with the box around each abnormality. Raises: DataError when the root is not a phantom set."""
    file = root.folder / "truth.csv"
    if not file.is_file():
        raise DataError(f"{root} contains no truth.csv, as phantoms do: pass --boxes FILE.csv with boxes around abnormalities.")
    return file


# Many easy images rather than few hard ones: a network learns them from scratch in three minutes.
DEMO_SET = {"train_studies": 1100, "held_out_studies": 100, "size": 128, "severity": 4.0, "zoom": 2.0}


def ensure(demo=False):
    """The default set where no data is given, drawn on first use. Returns: its root, a Path."""
    out = Path("data/phantom_demo" if demo else "data/phantom")
    if not out.exists():
        draw_set(out, **(DEMO_SET if demo else {}))
    note = out / NOTE
    if not note.is_file() or json.loads(note.read_text()).get("version") != VERSION:
        raise PhantomError(f"{out} was not drawn by this version of the repository. Remove it, and it is drawn again.")
    return out
