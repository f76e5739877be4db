"""Folders -> table -> pixels -> batches."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import write_study

from bones.data.images import fit_square, read_grey
from bones.data.labels import folder_labels
from bones.data.pixels import Rows, load_pixels
from bones.data.splits import class_weights, split_by_patient
from bones.data.table import COLUMNS
from bones.data.views import find_views, fingerprint
from bones.networks.batches import Batches, predict
from bones.system.errors import DataError

# --- find_views


def test_table_of_views(small_root):
    views = find_views(small_root, "train")
    assert list(views.columns) == ["path", "split", "study_type", "patient", "study", "view", "label"]
    assert len(views) == 16
    assert views["label"].sum() == 8
    first = views.iloc[0]
    assert (first.study_type, first.patient, first.study, first.view) == (
        "XR_HUMERUS",
        "patient00001",
        "study1_positive",
        "image1.png",
    )
    assert first.split == "train" and first.label == 1
    assert set(find_views(small_root, "held-out")["split"]) == {"held-out"}


def test_real_counts(fracatlas):
    # Counts of the data's own README.
    train = find_views(fracatlas, "train", ["all"])
    valid = find_views(fracatlas, "held-out", ["all"])
    assert train["label"].value_counts().to_dict() == {0: 634, 1: 253}
    assert valid["label"].value_counts().to_dict() == {0: 511, 1: 186}
    assert train["patient"].nunique() + valid["patient"].nunique() == 465


def test_root_forms(small_root):
    expected = find_views(small_root, "train")["label"].tolist()
    deep = small_root.parent / "unpacked"
    deep.mkdir()
    shutil.move(small_root, deep / "MURA-v1.1")
    (deep / "__MACOSX" / "train").mkdir(parents=True)
    assert find_views(deep, "train")["label"].tolist() == expected
    flat = deep / "MURA-v1.1"
    for split in ("train", "valid"):
        shutil.move(flat / split / "XR_HUMERUS", flat / "patients")
        (flat / split).rmdir()
        shutil.move(flat / "patients", flat / split)
    views = find_views(flat, "train")
    assert views["label"].tolist() == expected
    assert set(views["study_type"]) == {"XR_HUMERUS"}


def test_suffixes_types_and_order(tmp_path):
    root = tmp_path / "root"
    folder = write_study(root, "train", "study1_positive", images=11, patient="patient1")
    os.rename(folder / "image1.png", folder / "image1.JPG")
    write_study(root, "train", "study1_negative", patient="patient2", study_type="XR_ELBOW")
    views = find_views(root, "train", ["all"])
    assert set(views["study_type"]) == {"XR_HUMERUS", "XR_ELBOW"}
    humerus = views[views["study_type"] == "XR_HUMERUS"]["view"].tolist()
    assert humerus == ["image1.JPG"] + [f"image{view}.png" for view in range(2, 12)]


def test_strays_are_passed_over(small_root):
    before = find_views(small_root, "train")
    study = small_root / "train" / "XR_HUMERUS" / "patient00001" / "study1_positive"
    for name in ("._image1.png", ".DS_Store", "Thumbs.db"):
        (study / name).write_bytes(b"litter")
        (study.parent / name).write_bytes(b"litter")
    (small_root / "train" / "__MACOSX" / "patient00001" / "study1_broken").mkdir(parents=True)
    (small_root / "train" / ".ipynb_checkpoints").mkdir()
    pd.testing.assert_frame_equal(find_views(small_root, "train"), before)


def test_other_files_are_named(small_root, caplog):
    study = small_root / "train" / "XR_HUMERUS" / "patient00001" / "study1_positive"
    (study / "report.txt").write_text("normal")
    find_views(small_root, "train")
    assert "report.txt is no image" in caplog.text


def rename(root, before, after):
    (root / "train" / "XR_HUMERUS" / "patient00001" / before).rename(root / "train" / "XR_HUMERUS" / "patient00001" / after)


FAULTS = {
    "study name": (
        lambda root: rename(root, "study1_positive", "study1_pos"),
        "study1_pos: the name of a study folder ends in",
    ),
    "no train": (lambda root: shutil.rmtree(root / "train"), "holds no train/ folder"),
    "empty split": (
        lambda root: [shutil.rmtree(path) for path in (root / "train/XR_HUMERUS").iterdir()],
        "holds no views of XR_HUMERUS",
    ),
    "empty study": (
        lambda root: [path.unlink() for path in (root / "train/XR_HUMERUS/patient00001/study1_positive").iterdir()],
        "study1_positive holds no image",
    ),
    "one class": (
        lambda root: [shutil.rmtree(path) for path in root.glob("train/*/*/*_negative")],
        "all 8 views are positive",
    ),
    "patient twice": (
        lambda root: shutil.copytree(root / "train/XR_HUMERUS/patient00001", root / "valid/XR_HUMERUS/patient00001"),
        "1 patients stand in both .*: patient00001",
    ),
    "loose image": (
        lambda root: (root / "train/XR_HUMERUS/patient00001/study1_positive/image1.png").rename(
            root / "train/XR_HUMERUS/patient00001/image1.png"
        ),
        "image1.png lies outside of a study folder",
    ),
    "no such folder": (shutil.rmtree, "is no folder"),
    "other type": (
        lambda root: (root / "train/XR_HUMERUS").rename(root / "train/XR_HAND"),
        "holds no XR_HUMERUS; it holds XR_HAND",
    ),
    "mixed levels": (lambda root: (root / "train/patient00077").mkdir(), "mixes XR_.* folders with others"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_layout_faults(small_root, fault):
    make, message = FAULTS[fault]
    make(small_root)
    with pytest.raises(DataError, match=message):
        find_views(small_root, "train")


def test_root_hints(small_root, tmp_path):
    with pytest.raises(DataError, match=f"Did you mean --data {small_root}"):
        find_views(small_root / "train" / "XR_HUMERUS", "train")
    shutil.copytree(small_root, tmp_path / "second")
    with pytest.raises(DataError, match="several data roots"):
        find_views(tmp_path, "train")


# --- label corrections


def test_labels_override_folder_names(small_root, tmp_path):
    file = tmp_path / "labels.csv"
    studies = ["train/XR_HUMERUS/patient00001/study1_positive", "valid/XR_HUMERUS/patient00010/study1_negative"]
    for content in (
        f"study,label\n{studies[0]},0\n{studies[1]},1\n",
        f"probability,label,study\n0.1,negative,{studies[0]}\n0.9,Positive,{studies[1]}\n",
        f"MURA-v1.1/{studies[0]}/,0\nMURA-v1.1/{studies[1]}/,1\n",  # as MURA's own valid_labeled_studies.csv
        f" Study ,LABEL\n\n{studies[0].replace('/', chr(92))},0\n{studies[1]},1\n{studies[1]},1\n",
    ):
        file.write_text(content)
        for split, study, label in (("train", studies[0], 0), ("held-out", studies[1], 1)):
            views = find_views(small_root, split, labels=file)
            plain = find_views(small_root, split)
            corrected = views["path"].str.contains(study)
            assert set(views["label"][corrected]) == {label} != set(plain["label"][corrected])
            assert (views["label"] == plain["label"])[~corrected].all() and corrected.sum() == 2
            assert (folder_labels(views) == plain["label"]).all()


STUDY = "train/XR_HUMERUS/patient00001/study1_positive"


@pytest.mark.parametrize(
    ("content", "message"),
    (
        (None, "cannot be read: No such file"),
        ("", "is no table"),
        ("study,label\ntrain/XR_HUMERUS/patient99999/study1_positive,0\n", "line 2: .* is no study folder"),
        ("patient00001,0\n", "line 1: 'patient00001' is no study folder"),
        ("study,label\ntrain/XR_HUMERUS/patient00001,0\n", "line 2: .* is no study folder"),
        ("study,label\ntrain,0\n", "line 2: 'train' is no study folder"),
        (
            f"study,label\ntrain/XR_HUMERUS/../{STUDY},0\n".replace("train/XR_HUMERUS/../train", "train/../train"),
            "no study folder",
        ),
        ("study,label\ntrain/" + "x" * 5000 + "_positive,0\n", "line 2: .* is no study folder"),
        (f"study,label\n\n\n{STUDY},maybe\n", "line 4: 'maybe' is no label"),
        (f"study,label\n{STUDY},\n", "line 2: '' is no label"),
        (f"study,label\n{STUDY},0\n{STUDY},1\n", "line 3: .* has another label further up"),
        (f"{STUDY}\n", "has 1 columns"),
        (f"a,b,c\n{STUDY},0,1\n", "has 3 columns and no header"),
        ("\0\1\xff", "no study folder|columns|is no table"),
    ),
)
def test_faults_of_label_files(content, message, small_root, tmp_path):
    if content is not None:
        (tmp_path / "labels.csv").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        find_views(small_root, "train", labels=tmp_path / "labels.csv")


def test_corrections_that_leave_one_class_are_told(small_root, tmp_path):
    studies = [path.relative_to(small_root) for path in (small_root / "train").glob("*/*/*_negative")]
    (tmp_path / "labels.csv").write_text("study,label\n" + "".join(f"{study},1\n" for study in studies))
    with pytest.raises(DataError, match="all 16 views are positive"):
        find_views(small_root, "train", labels=tmp_path / "labels.csv")


# --- split_by_patient

studies = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 1), st.sampled_from(["XR_HUMERUS", "XR_ELBOW"])), min_size=40, max_size=120
)


@settings(max_examples=60, deadline=None)
@given(studies=studies, fraction=st.floats(0.1, 0.6), seed=st.integers(0, 1000))
def test_nobody_is_in_both_parts(studies, fraction, seed):
    views = pd.DataFrame(
        [
            (f"p{n}", "train", kind, f"patient{who}", f"study{n}", "image1.png", label)
            for n, (who, label, kind) in enumerate(studies)
        ],
        columns=COLUMNS,
    )
    try:
        train, tuning = split_by_patient(views, fraction, seed)
    except DataError as error:
        assert "lacks a class" in str(error)
        return
    assert not set(train["patient"]) & set(tuning["patient"])
    assert sorted([*train["path"], *tuning["path"]]) == sorted(views["path"])
    assert set(tuning["split"]) == {"tuning"}
    assert abs(tuning["patient"].nunique() - fraction * views["patient"].nunique()) <= 1
    again = split_by_patient(views.sample(frac=1, random_state=seed), fraction, seed)[1]
    assert set(again["path"]) == set(tuning["path"]), "the same seed draws the same patients, in whatever order the table is"
    # Stratified: of the patients of the same study types and label about the same share is taken.
    patients = views.groupby("patient").agg(
        types=("study_type", lambda types: tuple(sorted(set(types)))), label=("label", "max")
    )
    for _, group in patients.groupby(["types", "label"]):
        assert abs(group.index.isin(tuning["patient"]).sum() - fraction * len(group)) <= 1


def test_split_keeps_the_make_up(fracatlas):
    views = find_views(fracatlas, "train", ["all"])
    train, tuning = split_by_patient(views, 0.2, seed=0)
    for kinds in (["XR_HAND"], ["XR_HAND", "XR_SHOULDER", "XR_UPPERLIMB"]):
        patients = [part[part["study_type"].isin(kinds)].groupby("patient")["label"].max() for part in (train, tuning)]
        assert abs(patients[0].mean() - patients[1].mean()) < 0.04, kinds
    other = split_by_patient(views, 0.2, seed=1)[1]
    assert set(other["patient"]) != set(tuning["patient"])


# --- decoding

GRADIENT = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
COLOUR = np.stack([GRADIENT, GRADIENT[:, ::-1], np.full_like(GRADIENT, 40)], axis=-1)
LUMA = (0.299 * COLOUR[..., 0] + 0.587 * COLOUR[..., 1] + 0.114 * COLOUR[..., 2]).round()


def save_modes(folder):
    """{file: (expected grey, tolerance)} of the same picture in every mode."""
    alpha = np.full_like(GRADIENT, 255)
    Image.fromarray(GRADIENT).save(folder / "L.png")
    Image.fromarray(GRADIENT > 127).save(folder / "1.png")
    Image.fromarray(COLOUR).save(folder / "RGB.png")
    Image.fromarray(np.dstack([COLOUR, alpha])).save(folder / "RGBA.png")
    Image.fromarray(np.dstack([GRADIENT, alpha])).save(folder / "LA.png")
    Image.fromarray(COLOUR).quantize(256).save(folder / "P.png")
    Image.fromarray(GRADIENT.astype(np.uint16) * 257).save(folder / "I16.png")
    Image.fromarray(COLOUR).convert("CMYK").save(folder / "CMYK.jpg", quality=100)
    Image.fromarray(COLOUR).save(folder / "RGB.jpg", quality=100, subsampling=0)
    return {
        "L.png": (GRADIENT, 0),
        "1.png": ((GRADIENT > 127) * 255, 0),
        "RGB.png": (LUMA, 1),
        "RGBA.png": (LUMA, 1),
        "LA.png": (GRADIENT, 0),
        "P.png": (LUMA, 8),
        "I16.png": (GRADIENT, 0),
        "CMYK.jpg": (LUMA, 4),
        "RGB.jpg": (LUMA, 4),
    }


def test_every_mode_becomes_luminance(tmp_path):
    for name, (expected, tolerance) in save_modes(tmp_path).items():
        grey = np.asarray(read_grey(tmp_path / name), int)
        assert grey.shape == expected.shape, name
        assert np.abs(grey - expected).max() <= tolerance, name


def test_transparent_pixels_are_black(tmp_path):
    Image.fromarray(np.dstack([COLOUR, np.zeros_like(GRADIENT)])).save(tmp_path / "clear.png")
    assert np.asarray(read_grey(tmp_path / "clear.png")).max() == 0


def test_exif_orientation(tmp_path):
    image = Image.fromarray(GRADIENT)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    assert np.asarray(read_grey(tmp_path / "turned.jpg")).shape == (256, 8)


def test_fit_square():
    grey = Image.fromarray(np.full((50, 100), 200, np.uint8))
    padded = fit_square(grey, 40, "pad")
    assert padded.shape == (40, 40)
    assert (padded[10:30] == 200).all() and not padded[:10].any() and not padded[30:].any()
    assert (fit_square(grey, 40, "stretch") == 200).all()
    assert fit_square(Image.new("L", (1000, 1)), 32, "pad").shape == (32, 32)


BROKEN = {
    "image1.png": (b"", "0 bytes"),
    "image2.png": (b"no image at all", "no image that Pillow knows"),
    "image3.dcm": (b"\0" * 128 + b"DICM", "its header names no transfer syntax"),
    "image4.png": (None, "ends after 300 bytes"),
}


def break_images(study):
    """Put every kind of broken file into a study."""
    good = next(study.glob("*.png")).read_bytes()
    for name, (content, _) in BROKEN.items():
        (study / name).write_bytes(good[:300] if content is None else content)


def test_unreadable_are_all_listed_or_left_out(small_root, tmp_path, caplog):
    study = small_root / "train" / "XR_HUMERUS" / "patient00001" / "study1_positive"
    break_images(study)
    views = find_views(small_root, "train")
    for _ in range(2):  # the second time too
        with pytest.raises(DataError) as error:
            load_pixels(views, 16, "pad", cache=tmp_path / "cache")
    message = str(error.value)
    assert message.startswith("4 of 18 images") and "--skip-unreadable" in message
    for name, (_, reason) in BROKEN.items():
        assert any(name in line and reason in line for line in message.split("\n")), name
    assert "image2.png" not in caplog.text
    for _ in range(2):  # decoded, then from the cache
        kept, pixels = load_pixels(views, 16, "pad", skip_unreadable=True, cache=tmp_path / "cache")
        assert len(kept) == len(pixels) == 14
        assert not set(kept["view"][kept["patient"] == "patient00001"])
        assert "image2.png   no image that Pillow knows" in caplog.text
        expected = [fit_square(read_grey(path), 16, "pad") for path in kept["path"]]
        assert (pixels[np.arange(14)][..., 0] == expected).all()


def test_real_truncated(fracatlas_truncated, tmp_path):
    paths = sorted(map(str, fracatlas_truncated.rglob("*.jpg")))
    views = pd.DataFrame({"path": paths})
    with pytest.raises(DataError, match="31 of 31 images") as error:
        load_pixels(views, 64, "pad", cache=tmp_path)
    assert str(error.value).count("ends after") == 31


# --- cache


def test_cache_is_mapped_and_renewed(small_root, tmp_path):
    views = find_views(small_root, "train")
    cache = tmp_path / "cache"
    first = load_pixels(views, 16, "pad", cache=cache)[1]
    assert isinstance(first.array, np.memmap) and first.array.dtype == np.uint8 and first.shape == (16, 16, 16, 1)
    files = sorted(cache.iterdir())
    load_pixels(views, 16, "pad", cache=cache)
    assert sorted(cache.iterdir()) == files
    Image.new("L", (20, 16), 77).save(views["path"][3])
    changed = load_pixels(views, 16, "pad", cache=cache)[1]
    assert set(np.unique(changed[3])) == {0, 77}  # the padded ground, and the new picture
    for size, resize in ((16, "stretch"), (24, "pad")):
        assert load_pixels(views, size, resize, cache=cache)[1].shape[1] == size
    assert len(list(cache.glob("*.npy"))) == 4 and not list(cache.glob(".*"))
    in_memory = load_pixels(views, 16, "pad", cache=None)[1]
    assert (in_memory[np.arange(16)] == changed[np.arange(16)]).all()


@pytest.mark.parametrize("content", [b"", b"damaged"])
@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_a_damaged_cache_is_built_again(content, suffix, small_root, tmp_path):
    views = find_views(small_root, "train")
    before = load_pixels(views, 16, "pad", cache=tmp_path / "cache")[1][np.arange(16)]
    file = next((tmp_path / "cache").glob(f"*{suffix}"))
    file.write_bytes(content if suffix == ".npy" else b"")
    assert (load_pixels(views, 16, "pad", cache=tmp_path / "cache")[1][np.arange(16)] == before).all()
    file.unlink()
    assert (load_pixels(views, 16, "pad", cache=tmp_path / "cache")[1][np.arange(16)] == before).all()


# --- batches


def test_batches_order():
    pixels = Rows(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10))
    batches = Batches(pixels, 4, label=np.arange(10), weight=np.arange(10) / 2, shuffle_seed=3)

    def epoch():
        parts = [batches[index] for index in range(len(batches))]
        batches.on_epoch_end()
        return [np.concatenate(part).ravel().tolist() for part in zip(*parts, strict=True)]

    first, second = epoch(), epoch()
    assert first[0] == first[1] == [2 * weight for weight in first[2]]
    assert len(set(first[0])) == 8 and set(first[0]) < set(range(10)), "two whole batches of different views"
    assert first != second
    later = Batches(pixels, 4, label=np.arange(10), shuffle_seed=3)
    later.start_at(1)
    assert np.concatenate([later[index][1] for index in range(2)]).ravel().tolist() == second[1]
    assert len(Batches(pixels, 16, shuffle_seed=3)[0][0]) == 10, "fewer views than a batch are a batch"
    still = Batches(pixels, 4)
    assert len(still[0]) == 1 and still[2][0].ravel().tolist() == [8, 9]


def test_rows_of_some_views():
    views = pd.DataFrame({"path": ["a", "b", "c", "d"]})
    rows = Rows(np.arange(10), [2, 4, 6, 8]).of(views, views.iloc[[3, 1]])
    assert rows[np.arange(2)].tolist() == [8, 4] and len(rows) == 2


def test_class_weights_balance_each_type():
    views = pd.DataFrame({"study_type": ["A"] * 5 + ["B"] * 4, "label": [1, 0, 0, 0, 0, 1, 1, 1, 0]})
    weights = class_weights(views)
    for kind in "AB":
        part = views["study_type"] == kind
        assert np.isclose(weights[part & (views["label"] == 1)].sum(), weights[part & (views["label"] == 0)].sum())
    assert np.isclose(weights[0], 4 / 5) and np.isclose(weights[5], 1 / 4)


def test_fingerprint_tells_data_apart(small_root, tmp_path):
    views = find_views(small_root, "train")
    moved = tmp_path / "elsewhere"
    shutil.copytree(small_root, moved)
    assert fingerprint(find_views(moved, "train"), moved) == fingerprint(views, small_root)
    rename(moved, "study1_positive", "study1_negative")
    assert fingerprint(find_views(moved, "train"), moved) != fingerprint(views, small_root)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_views(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    count, size = 36_808, 80
    np.lib.format.open_memmap(tmp_path / "cache.npy", "w+", np.uint8, (count, size, size, 1))  # zeros take no disk
    pixels = np.load(tmp_path / "cache.npy", mmap_mode="r")
    batches = Batches(Rows(pixels, np.arange(count)), 8, shuffle_seed=0)
    batches[0]
    before = resident()
    assert all(batches[place][0].shape == (8, size, size, 1) for place in range(len(batches)))
    assert resident() - before < pixels.nbytes / 10


def test_the_last_batch_is_filled_up():
    shapes = []

    class Sum:
        def predict(self, batches, verbose):
            values = [batches[place][0] for place in range(len(batches))]
            shapes.extend(value.shape for value in values)
            return np.concatenate([value.sum((1, 2), dtype=np.int64) for value in values])

    pixels = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((7, 2, 2, 1), np.uint8)
    np.testing.assert_array_equal(predict(Sum(), pixels, batch_size=4), 4 * np.arange(7))
    some = Rows(pixels, [4, 2, 6])
    np.testing.assert_array_equal(predict(Sum(), some, batch_size=4), [16, 8, 24])
    assert shapes == [(4, 2, 2, 1), (4, 2, 2, 1), (3, 2, 2, 1)]


def test_flip_averaging_takes_the_mean_of_both_sides():
    class LeftSide:
        def predict(self, batches, verbose):
            return np.concatenate([batches[place][0][:, 0, 0] for place in range(len(batches))]).astype(np.float32)

    pixels = np.array([[[[10], [20], [60]]], [[[0], [7], [2]]], [[[1], [9], [1]]]], np.uint8)
    np.testing.assert_array_equal(predict(LeftSide(), pixels, batch_size=2), [10, 0, 1])
    found = predict(LeftSide(), pixels, batch_size=2, flip_averaging=True)
    np.testing.assert_array_equal(found, [35, 1, 1])
