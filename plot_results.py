"""Runs bones.evaluation.figures."""

import runpy

runpy.run_module("bones.evaluation.figures", run_name="__main__")
