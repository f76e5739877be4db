"""Detection of bone abnormalities in radiographs.

    run = bones.open_run("weights/fracatlas")           # or a run folder of mura.py
    table = run.classify_files(["a.png", "study1"])     # as model_test.py: one row a file, with probability and decision
    probability = run.predict_images([array, array])    # (height, width) arrays, of views

docs/architecture.md lists every file.
"""

import importlib.util
import sys

NEEDED = ("numpy", "pandas", "PIL", "pydantic", "filelock", "keras")  # of requirements.txt, with which the others come

missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(
        f"{sys.executable} has no {', '.join(missing)}. Activate the environment that has the packages "
        "(source .venv/bin/activate), or install them: pip install -r requirements.txt"
    )


def open_run(path):
    """A trained run, ready to predict, on the backend of KERAS_BACKEND (TensorFlow where it is not set).

    Args:
        path: run folder of mura.py, such as weights/fracatlas.
    Returns: bones.evaluation.classifier.Classifier, which model_test.py, the page and the exports use, too.
    Raises: RunError when it is not a run; MissingPackageError when the backend is not installed.
    """
    from bones.system import backend  # here: command lines are parsed without Keras

    backend.choose()
    from bones.evaluation.classifier import Classifier
    from bones.runs.folder import RunFolder

    return Classifier(RunFolder.open(path))
