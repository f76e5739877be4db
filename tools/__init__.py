"""Tools of the developers, run as `python -m tools.NAME`; each begins in the environment that all scripts have."""

from bones.system import environment

environment.prepare()
