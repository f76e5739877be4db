"""Runs bones.serving.export."""

import runpy

runpy.run_module("bones.serving.export", run_name="__main__")
