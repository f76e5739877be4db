"""Runs bones.training.session."""

import runpy

runpy.run_module("bones.training.session", run_name="__main__")
