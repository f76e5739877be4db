"""Packages that only some parts need: told by name, with the line that installs them, where they are missing."""

import importlib


class MissingPackageError(Exception):
    """A package that is not installed; the message says what needs it and how to get it."""


def need(module, purpose):
    """An optional module, imported.

    Args:
        module: its name.
        purpose: what needs it, as in "reading DICOM".
    Raises: MissingPackageError.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{module} is not installed, and {purpose} needs it ({error}).\n"
            "Expected the optional packages: pip install -r requirements-extra.txt"
        ) from None
