"""Runs bones.evaluation.split."""

import runpy

runpy.run_module("bones.evaluation.split", run_name="__main__")
