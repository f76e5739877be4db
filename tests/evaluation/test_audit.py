"""Changes of films: what they hide, what they leave, and that a network that reads a marker is found out."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bones.data import images
from bones.evaluation import audit


def film(ground=20, limb=120, size=(120, 100)):
    """A bar for a limb, a marker in a corner, a bright strip at the bottom edge."""
    grey = np.full(size, ground, np.uint8)
    grey[:, 40:60] = limb
    grey[40:80, 45:55] = 200 if limb > ground else 40  # bone
    grey[4:12, 84:94] = 255 - ground  # marker
    return grey


@pytest.mark.parametrize(("ground", "limb"), ((20, 90), (230, 150)))
def test_the_limb_is_found_on_dark_and_bright_ground(ground, limb):
    grey = film(ground, limb)
    mask, found = audit.find_limb(grey)
    assert found == ground
    assert mask[:, 41:59].all() and not mask[:, :35].any() and not mask[:, 66:].any()
    only = audit.only_limb(grey)
    np.testing.assert_array_equal(only[:, 40:60], grey[:, 40:60])
    assert (only[:, :35] == ground).all() and (only[4:12, 84:94] == ground).all()


def test_corners_and_borders_are_hidden():
    grey = film()
    corners = audit.hide_corners(grey)
    assert (corners[:20, -20:] == 20).all() and (corners[:, 40:60] == grey[:, 40:60]).all()
    borders = audit.hide_borders(grey)
    assert (borders[:8] == 20).all() and (borders[:, -8:] == 20).all()
    np.testing.assert_array_equal(borders[8:-8, 8:-8], grey[8:-8, 8:-8])
    np.testing.assert_array_equal(grey, film(), err_msg="the film itself is left alone")


def test_mirror_and_invert():
    grey = film()
    np.testing.assert_array_equal(audit.mirror(grey), grey[:, ::-1])
    np.testing.assert_array_equal(audit.invert(grey), 255 - grey)


@pytest.mark.parametrize("shape", ((1, 1), (3, 200), (50, 2)))
@pytest.mark.parametrize("value", (None, 7))
def test_tiny_and_blank_films(shape, value):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, shape).astype(np.uint8) if value is None else np.full(shape, value, np.uint8)
    for change in audit.CHANGES.values():
        changed = change(grey)
        assert changed.shape == grey.shape and changed.dtype == np.uint8


def test_a_network_that_reads_a_marker_is_found_out():
    """Its probability is the brightness of a corner: hiding corners takes its AUROC away, mirroring too, the rest does not."""
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    films = [film(ground=20 + int(rng.integers(0, 9))) for _ in label]
    for one, positive in zip(films, label, strict=True):
        one[4:12, 84:94] = 200 if positive else one[0, 0]

    def predictions(change):
        probability = [float(change(one)[4:12, 84:94].mean()) / 255 for one in films]
        return pd.DataFrame(
            {"study_type": "XR", "patient": np.arange(60), "study": "s", "label": label, "probability": probability}
        )

    before = predictions(lambda one: one)
    rows = {name: audit.compare(name, before, predictions(change), 0.5) for name, change in audit.CHANGES.items()}
    assert rows["corners hidden"]["AUROC"] < 0.7 and rows["only the limb"]["AUROC"] < 0.7 and rows["mirrored"]["AUROC"] < 0.7
    assert rows["corners hidden"]["difference [95 % interval]"].startswith("-0.")
    assert rows["corners hidden"]["probability moves by"] > 0.3 and rows["corners hidden"]["decisions changed"] == 0.5


def test_examples_show_every_change():
    sheet = audit.examples([Image.fromarray(film()), Image.fromarray(film(230, 150))])
    assert sheet.size[0] == 200 * (1 + len(audit.CHANGES)) and sheet.size[1] > 400


def test_limb_on_real_films(fracatlas):
    """On real films the limb is neither nothing nor all; on three in four or more it holds nearly all bright bone.

    The others show two limbs, a plaster, or a ground as bright as the limb.
    """
    kept = []
    for path in sorted((fracatlas / "valid" / "XR_HAND").glob("*/*/*.jpg"))[::5]:
        grey = np.asarray(images.read_grey(path))
        mask, _ = audit.find_limb(grey)
        assert 0.03 < mask.mean() < 0.9, path
        inner = (slice(20, -20), slice(20, -20))  # without bright film edges
        kept.append(mask[inner][grey[inner] >= np.quantile(grey[inner], 0.98)].mean())
    assert np.mean(np.array(kept) > 0.95) > 0.75 and len(kept) > 100
