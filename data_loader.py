"""Runs bones.data.views."""

import runpy

runpy.run_module("bones.data.views", run_name="__main__")
