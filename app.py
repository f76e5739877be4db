"""Runs bones.serving.server."""

import runpy

runpy.run_module("bones.serving.server", run_name="__main__")
