"""`data_loader.py --check`: each kind of fault made and found, and the real data against what their README says of them."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import write_study

import data_loader
from bones.data import check as data_check


def check(root, capsys, *options):
    """(exit status, what was printed, on either stream)."""
    status = data_loader.main(["--check", str(root), *options])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


@pytest.fixture
def clean_root(tmp_path):
    """A data root without any fault: every image is another."""
    root, rng = tmp_path / "root", np.random.default_rng(0)
    for split, first, count in (("train", 1, 12), ("valid", 21, 6)):
        for patient in range(first, first + count):
            label = "positive" if patient % 2 else "negative"
            folder = root / split / "XR_HUMERUS" / f"patient{patient:05d}" / f"study1_{label}"
            folder.mkdir(parents=True)
            for view in (1, 2):
                Image.fromarray(rng.integers(0, 256, (16, 20), np.uint8)).save(folder / f"image{view}.png")
    return root


def study(root, patient, split="train"):
    """The study folder of a patient of clean_root."""
    return next((root / split / "XR_HUMERUS" / f"patient{patient:05d}").iterdir())


def test_a_clean_root_passes(clean_root, capsys):
    status, out = check(clean_root, capsys)
    assert status == 0 and "WRONG" not in out and out.count("note ") == 1 and "note  0 pairs look alike" in out
    assert "Nothing was found that would make training wrong." in out
    assert f"Next: python mura.py --data {clean_root} --study-type all" in out
    row = next(line for line in out.split("\n") if line.strip().startswith("train"))
    assert re.findall(r"\d+ \([\d,]+\)", row) == ["12 (592)", "12 (587)", "6 (271)", "24 (1,272)", "12 (599)"]
    assert "6 (135)" in out and "6 (132)" in out and "12 (288)" in out and "6 (140)" in out


def swap_byte(path):
    path.write_bytes(path.read_bytes()[:60])


def copy_over(source, target):
    shutil.copy(source / "image1.png", target / "image2.png")


FAULTS = {
    "unreadable": (lambda root: swap_byte(study(root, 1) / "image1.png"), "1 of 36 images cannot be decoded", 1),
    "other label": (lambda root: copy_over(study(root, 1), study(root, 2)), "(1 groups) under different labels", 1),
    "both splits": (lambda root: copy_over(study(root, 1), study(root, 21, "valid")), "in several splits", 1),
    "other patient": (lambda root: copy_over(study(root, 1), study(root, 3)), "of different patients", 0),
    "same patient": (
        lambda root: copy_over(study(root, 1), study(root, 1)),
        "2 byte-identical images (1 groups) of one patient",
        0,
    ),
    "patient in both": (
        lambda root: shutil.copytree(study(root, 21, "valid").parent, root / "train" / "XR_HUMERUS" / "patient00021"),
        "1 patient is in several splits",
        1,
    ),
    "blank": (
        lambda root: Image.new("L", (20, 16), 77).save(study(root, 1) / "image1.png"),
        "1 near-blank images",
        0,
    ),
    "no label": (lambda root: study(root, 1).rename(study(root, 1).with_name("study1")), "1 layout errors", 1),
    "image outside": (lambda root: shutil.copy(study(root, 1) / "image1.png", study(root, 1).parent), "lies outside", 1),
    "empty study": (lambda root: (study(root, 1).parent / "study2_negative").mkdir(), "contains no image", 1),
    "no valid": (lambda root: shutil.rmtree(root / "valid"), "no held-out views: valid/ is absent or empty", 0),
    "empty train": (lambda root: (shutil.rmtree(root / "train"), (root / "train").mkdir()), "no train views", 1),
    "mixed folders": (lambda root: (root / "train" / "OTHER").mkdir(), "mixes XR_* folders with others", 1),
    "a pipe": (lambda root: os.mkfifo(study(root, 1) / "image3.png"), "image3.png   not a file", 1),
    "one type alone": (
        lambda root: (root / "valid" / "XR_HUMERUS").rename(root / "valid" / "xr_humerus"),
        "study types in one split only",
        0,
    ),
    "no train": (lambda root: shutil.rmtree(root / "train"), "no train views", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault, clean_root, capsys):
    make, message, expected = FAULTS[fault]
    make(clean_root)
    status, out = check(clean_root, capsys)
    assert message in out and status == expected
    assert out.count("\nWRONG") >= expected and ("\nWRONG" in out) == bool(expected)


def test_all_faults_at_once_are_all_listed(clean_root, capsys):
    for name in ("unreadable", "blank", "no label", "empty study", "image outside"):
        patient = {"unreadable": 2, "blank": 3, "no label": 4, "empty study": 5, "image outside": 6}[name]
        here = study(clean_root, patient)
        if name == "unreadable":
            swap_byte(here / "image1.png")
        elif name == "blank":
            Image.new("L", (20, 16), 7).save(here / "image1.png")
        elif name == "no label":
            here.rename(here.with_name("study1"))
        elif name == "empty study":
            (here.parent / "study2_negative").mkdir()
        else:
            shutil.copy(here / "image1.png", here.parent)
    status, out = check(clean_root, capsys)
    assert status == 1 and "3 layout errors" in out and "1 near-blank" in out and "1 of 34 images" in out


def test_a_mode_that_gives_the_label_away(clean_root, capsys):
    """As in MURA, where colour files are more often negative."""
    for path in clean_root.rglob("*_negative/*.png"):
        with Image.open(path) as image:
            image.convert("RGB").save(path)
    status, out = check(clean_root, capsys)
    assert status == 0 and "An image's mode alone predicts its label with AUROC 1.000: label leak" in out
    assert "become grey before training, which removes it" in out
    assert re.search(r"RGB +18 +0", out) and re.search(r"L +0 +18", out)


def test_sizes_that_give_the_label_away(clean_root, capsys):
    for path in clean_root.rglob("*_positive/*.png"):
        with Image.open(path) as image:
            image.resize((40, 40)).save(path)
    _, out = check(clean_root, capsys)
    assert "long side alone predicts its label with AUROC 1.000: label leak" in out
    assert "--resize stretch removes it" in out and "width" in out and "40" in out


def test_corrections_mend_a_contradiction(clean_root, capsys):
    copy_over(study(clean_root, 1), study(clean_root, 2))
    assert check(clean_root, capsys)[0] == 1
    name = study(clean_root, 2).relative_to(clean_root)
    (clean_root / "labels.csv").write_text(f"study,label\n{name},1\n")
    status, out = check(clean_root, capsys, "--labels", str(clean_root / "labels.csv"))
    assert status == 0 and "under different labels" not in out


def test_faults_of_the_command_line(tmp_path, capsys):
    assert check(tmp_path / "absent", capsys)[0] == 1
    assert check(tmp_path, capsys) == (
        1,
        f"data_loader.py: {tmp_path} contains neither train/ nor valid/, and no folder just below "
        "it does. Pass the folder that MURA unpacks to (MURA-v1.1) as --data.\n",
    )
    write_study(tmp_path, "train", "study1_positive")
    status, out = check(tmp_path, capsys, "--study-type", "XR_ELBOW")
    assert status == 1 and "contains no XR_ELBOW" in out
    with pytest.raises(SystemExit) as error:
        data_loader.main([])
    assert error.value.code == 2


def test_phantoms_are_marked_and_sound(phantoms, capsys):
    status, out = check(phantoms, capsys)
    assert status == 0 and "(PHANTOMS)" in out and "MURA v1.1" not in out


def test_mura_adds_up():
    """The table of MURA v1.1's counts, against the totals that MURA's authors give."""
    for split, views, studies in (("train", 36_808, 13_457), ("held-out", 3_197, 1_199)):
        rows = [counts for (part, _), counts in data_check.MURA.items() if part == split]
        assert len(rows) == 7
        assert sum(row[0] for row in rows) == views and sum(row[1] for row in rows) == studies
    table = pd.DataFrame(
        [(split, study_type, "p", str(n), n % 2) for split, study_type in data_check.MURA for n in range(2)],
        columns=["split", "study_type", "patient", "study", "label"],
    )
    text = data_check.count_table(table, mura=True)
    assert "(13,457)" in text and "(36,808)" in text and "(1,199)" in text and "(3,197)" in text


def test_real_data_are_as_their_readme_says(fracatlas, capsys):
    """Its table of counts: views, studies and patients of train and valid, and those that are positive; all grey."""
    status, out = check(fracatlas, capsys)
    assert "cannot be decoded" not in out and "near-blank" not in out and "layout errors" not in out
    rows = {line.split()[0]: line.split()[2:] for line in out.split("\n") if re.match(r" *(train|held-out) +all ", line)}
    assert rows == {
        "train": ["506", "270", "142", "887", "253"],
        "held-out": ["400", "195", "113", "697", "186"],
    }
    assert re.search(r"L +1145 +439", out)
    assert "in several splits" not in out and "in two splits" not in out
    # Which the README does not say: three films stand under both labels, each within one patient.
    assert status == 1 and "7 byte-identical images (3 groups) under different labels" in out
    assert "patient01279" in out and "patient01076" in out and "patient01284" in out


def test_real_truncated_data_are_all_unreadable(fracatlas_truncated, capsys):
    status, out = check(fracatlas_truncated, capsys)
    assert status == 1 and "31 of 31 images cannot be decoded" in out and out.count("ends after") == 31


def test_a_folder_without_leave_to_read_is_one_fault_of_many(clean_root, capsys, monkeypatch):
    """As root every folder can be read, so the refusal is made here."""
    locked, plain = study(clean_root, 1).parent, os.scandir
    swap_byte(study(clean_root, 2) / "image1.png")

    def scandir(path="."):
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    status, out = check(clean_root, capsys)
    assert status == 1 and f"{locked} cannot be read: Permission denied" in out
    assert "1 layout errors" in out and "1 of 34 images cannot be decoded" in out


def test_images_of_more_than_8_bits(clean_root, capsys):
    rng = np.random.default_rng(2)
    for patient, top in ((1, 4095), (2, 4095), (3, 65535)):
        values = rng.integers(0, top + 1, (16, 20)).astype(np.uint16)
        values[0, 0] = top
        Image.fromarray(values).save(study(clean_root, patient) / "image1.png")
    status, out = check(clean_root, capsys)
    assert status == 0 and "note  2 images of 16 bits use 12 of them and are shown so: 4,095 is white" in out
    assert "note  images of 16 bits have different depths (2 of 12 bits, 1 of 16 bits)" in out


@pytest.mark.parametrize(("top", "is_wrong"), [(3, True), (15, True), (63, True), (64, False)])
def test_near_black_images_make_training_wrong(top, is_wrong, clean_root, capsys):
    dark = np.random.default_rng(2).integers(0, top + 1, (16, 20)).astype(np.uint8)
    dark[0, 0] = top
    Image.fromarray(dark).save(study(clean_root, 4) / "image2.png")
    status, out = check(clean_root, capsys)
    assert status == is_wrong and ("WRONG  1 near-black images" in out) == is_wrong


def test_frames_are_a_remark(clean_root, capsys):
    rng = np.random.default_rng(3)
    frames = [Image.fromarray(rng.integers(0, 256, (16, 20), np.uint8)) for _ in range(3)]
    frames[0].save(study(clean_root, 4) / "image3.gif", save_all=True, append_images=frames[1:])
    status, out = check(clean_root, capsys)
    assert status == 0 and "note  1 remark on images" in out and "image3.gif   frame 1 of 3" in out


def test_a_folder_of_other_files_is_not_to_be_removed(clean_root, capsys):
    folder = study(clean_root, 4)
    for file in folder.iterdir():
        file.rename(file.with_suffix(".heic")).write_bytes(b"\0\0\0\x18ftypheic")
    status, out = check(clean_root, capsys)
    assert status == 1 and "contains no image that can be read (found: image1.heic, image2.heic)" in out
    assert "Convert what it contains" in out and "remove the folder" not in out


def test_a_root_without_views_has_no_table(tmp_path, capsys):
    (tmp_path / "root" / "train" / "XR_HUMERUS" / "patient1" / "study1_positive").mkdir(parents=True)
    status, out = check(tmp_path / "root", capsys)
    assert status == 1 and "No views were found." in out and "DataFrame" not in out
