"""Packages that only some parts need: looked for when a part is used, and named with the install line where one is missing."""

import importlib

from bones.system.errors import MissingPackageError


def need(module, what):
    """Import an optional package.

    Args:
        module: its name in Python, such as "onnxruntime".
        what: what needs it, in the user's words, such as "export.py --format onnx".
    Returns: the module.
    Raises: MissingPackageError when it is not installed, or does not load.
    """
    try:
        found = importlib.import_module(module)
        if found.__file__ is None:  # folders that pip leaves behind pass for a package
            raise ModuleNotFoundError(name=module.split(".")[0])
        return found
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]
        fault = "is not installed" if is_absent else f"does not load ({error})"
        raise MissingPackageError(f"{module} {fault}, and {what} needs it: pip install -r requirements/extra.txt") from None
