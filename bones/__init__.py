"""Detection of bone abnormalities in radiographs; docs/architecture.md lists every file. Without its packages, it says so."""

import importlib.util
import sys

NEEDED = ("numpy", "pandas", "PIL", "pydantic", "filelock", "keras")  # of requirements.txt, with which the others come

missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(
        f"{sys.executable} has no {', '.join(missing)}. Activate the environment that has the packages "
        "(source .venv/bin/activate), or install them: pip install -r requirements.txt"
    )
