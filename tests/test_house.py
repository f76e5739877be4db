"""The layout is the one of docs/architecture.md: few names at the root, no two classes of one name, every warning an error."""

import ast
import subprocess
import warnings
from collections import Counter

import pytest
from support import ROOT

FILES = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
SOURCES = [name for name in FILES if name.endswith(".py") and not name.startswith("tests/") and (ROOT / name).is_file()]
needs_checkout = pytest.mark.skipif(not FILES, reason="no git checkout")


@needs_checkout
def test_few_names_at_the_root():
    names = {name.split("/")[0] for name in FILES if not name.startswith(".")}
    assert len(names | {"weights"}) <= 20, sorted(names)


@needs_checkout
def test_no_two_classes_of_one_name():
    found = Counter()
    for name in SOURCES:
        found.update(node.name for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, ast.ClassDef))
    assert [name for name, count in found.items() if count > 1] == []


@needs_checkout
@pytest.mark.parametrize("name", [name for name in SOURCES if not name.endswith("__init__.py")])
def test_a_warning_of_ours_is_an_error(name):
    module = name.removesuffix(".py").replace("/", ".")
    with pytest.raises(UserWarning):
        warnings.warn_explicit("of ours", UserWarning, name, 1, module=module)


@needs_checkout
def test_the_page_on_architecture_names_every_file():
    page = (ROOT / "docs" / "architecture.md").read_text()
    missing = [name for name in SOURCES if not name.endswith("__init__.py") and f"`{name}`" not in page]
    assert not missing, "docs/architecture.md does not name them"
