"""A run and studies without labels, for whatever is told of them."""

import shutil

import pytest
from study_folders import write_image


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run folder, as the command line names it."""
    shutil.copytree(trained, tmp_path / "run")
    return "run"


@pytest.fixture
def site():
    """Three studies of 2, 1 and 3 views below a folder."""
    for name, views in (("a/study1", 2), ("a/study2", 1), ("b/study10", 3)):
        for view in range(1, views + 1):
            write_image(f"site/{name}/image{view}.png", size=(20 + 7 * view, 30))
    return "site"
