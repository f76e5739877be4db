"""Phantoms: the same by seed, abnormal where they say, and with no other sign of the label."""

import hashlib
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from bones.data.images import read_grey
from bones.data.phantoms import sets as phantom
from bones.data.phantoms.anatomy import draw_arm
from bones.data.phantoms.films import draw_film, draw_framing
from bones.data.phantoms.injuries import KINDS, Injury, draw_injury
from bones.data.table import STUDY
from bones.data.views import find_views
from bones.system.errors import PhantomError
from tools import phantoms as phantoms_tool


def hashes(root):
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*.*"))}


def test_same_seed_same_films(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        phantom.draw_set(tmp_path / name, train_studies=6, held_out_studies=4, size=48, seed=seed)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b") != hashes(tmp_path / "c")
    with pytest.raises(PhantomError, match="exists"):
        phantom.draw_set(tmp_path / "a")


def test_set_is_a_data_root(phantoms, small_root):
    train = find_views(phantoms, "train")
    valid = find_views(phantoms, "held-out")
    assert len(train.drop_duplicates(STUDY)) == 40 and len(valid.drop_duplicates(STUDY)) == 24
    assert train.groupby(STUDY)["view"].size().max() > 1
    assert (train.groupby("patient")["study"].nunique() > 1).any()
    truth = pd.read_csv(phantoms / "truth.csv")
    assert set(truth["mode"]) == {"L", "RGB"}
    assert set(truth["kind"]) == {"none", *KINDS}
    for row in truth.itertuples():
        with Image.open(phantoms / row.path) as image:
            assert (image.mode, *image.size) == (row.mode, row.width, row.height)
    assert phantom.describe(phantoms).startswith("phantom, ")
    assert phantom.describe(small_root) is None
    assert phantom.describe([small_root, phantoms]) == phantom.describe(phantoms)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """truth.csv of 500 studies with what else one can read off a file."""
    root = tmp_path_factory.mktemp("data") / "many"
    truth = phantom.draw_set(root, train_studies=500, held_out_studies=0, size=64, seed=0)
    paths = [root / path for path in truth["path"]]
    return truth.assign(
        mean_grey=[np.asarray(read_grey(path)).mean() for path in paths],
        file_size=[os.path.getsize(path) for path in paths],
        area=truth["width"] * truth["height"],
        aspect=truth["width"] / truth["height"],
        is_rgb=truth["mode"] == "RGB",
        has_marker=truth["marker"] != "",
        marker_is_left=truth["marker"] == "L",
        views=truth.groupby(truth["path"].str.rsplit("/", n=1).str[0])["path"].transform("size"),
    )


FILE_SIGNS = ("mean_grey", "file_size", "width", "height", "area", "aspect", "is_rgb", "views")
FILM_SIGNS = ("border", "has_marker", "marker_is_left", "inverted")


@pytest.mark.parametrize("sign", FILE_SIGNS + FILM_SIGNS)
def test_label_cannot_be_read_from(sign, many):
    auroc = roc_auc_score(many["label"], many[sign].astype(float))
    assert 0.4 <= auroc <= 0.6, f"{sign} gives the label away: AUROC {auroc:.3f}"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_abnormal_is_in_the_box(kind):
    """A film with the injury and the same film without differ inside the box, and hardly outside where nothing moves."""
    rng = np.random.default_rng(0)
    arm = draw_arm(rng)
    framing = draw_framing(arm, 150, "L", 256, 1.0, rng)
    injury = draw_injury(kind, 150, arm, 1.0, rng)
    if kind != "displaced":
        injury.shift, injury.angle = (0.0, 0.0), 0.0
    broken, (left, top, right, bottom) = draw_film(arm, injury, framing)
    whole, no_box = draw_film(arm, Injury("none", 150), framing)
    assert no_box is None and 0 <= left < right <= 256 and 0 <= top < bottom <= 256
    difference = np.abs(broken.astype(float) - whole)
    inside = np.zeros(difference.shape, bool)
    inside[top:bottom, left:right] = True
    assert difference[inside].max() > 20
    if kind != "displaced":
        assert difference[inside].mean() > 4 * difference[~inside].mean()


def test_truth_boxes_cover_nearly_all_positives(many):
    positive = many[many["label"] == 1]
    assert positive["left"].notna().mean() > 0.97
    assert many.loc[many["label"] == 0, "left"].isna().all()


def test_severity_widens_gaps():
    rng = [np.random.default_rng(3) for _ in range(2)]
    arm = draw_arm(np.random.default_rng(0))
    mild, wide = (draw_injury("transverse", 150, arm, severity, r) for severity, r in zip((0.5, 2.0), rng, strict=True))
    assert wide.gap == pytest.approx(4 * mild.gap)


def test_ensure_draws_once_and_checks_the_version(in_tmp, monkeypatch):
    monkeypatch.setattr(phantom, "DEMO_SET", {"train_studies": 4, "held_out_studies": 4, "size": 32})
    root = phantom.ensure(demo=True)
    before = hashes(root)
    assert phantom.ensure(demo=True) == root and hashes(root) == before
    monkeypatch.setattr(phantom, "VERSION", phantom.VERSION + 1)
    with pytest.raises(PhantomError, match="Remove it"):
        phantom.ensure(demo=True)


def test_command_line(in_tmp, capsys):
    options = ["--out", "set", "--train-studies", "4", "--held-out-studies", "2", "--size", "32", "--sheet", "sheet.png"]
    assert phantoms_tool.main(options) == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 6 * 200 and np.asarray(sheet).std() > 20
    assert "Next: python mura.py --data set" in capsys.readouterr().out
    assert phantoms_tool.main(options) == 1
    assert "phantoms.py: set exists" in capsys.readouterr().err


def test_options_out_of_range(in_tmp, capsys):
    for option, value, message in (
        ("--train-studies", "1", "train studies is 1"),
        ("--size", "8", "size is 8"),
        ("--zoom", "0", "zoom is 0"),
    ):
        assert phantoms_tool.main(["--out", "set", option, value]) == 1
        assert message in capsys.readouterr().err
    assert not list(in_tmp.iterdir())
