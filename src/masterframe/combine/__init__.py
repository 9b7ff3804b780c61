"""A lazy stack and a recipe become a lazy result: one task a cell, from one read.

A cell is a band of whole rows, or of one row a part where a row of all frames is too much for the
memory. Sums over a row are made in parts of so many columns and put together by who writes the
master, so that their bits are the same however rows were cut.
"""

from masterframe.combine.band import rehearse
from masterframe.combine.cells import trim_rows, whole_rows
from masterframe.combine.facts import FrameFacts, facts_of, is_above_bias, stack_scale
from masterframe.combine.lazy import check_known, combine_stack, fit_calibration
from masterframe.combine.noise import noise_floor, noise_terms, shared_rounding
from masterframe.combine.result import Combined, even_chunks, plane_names, plane_type
from masterframe.combine.steps import measured_step, quantisation_step

__all__ = [
    "Combined",
    "FrameFacts",
    "check_known",
    "combine_stack",
    "even_chunks",
    "facts_of",
    "fit_calibration",
    "is_above_bias",
    "measured_step",
    "noise_floor",
    "noise_terms",
    "plane_names",
    "plane_type",
    "quantisation_step",
    "rehearse",
    "shared_rounding",
    "stack_scale",
    "trim_rows",
    "whole_rows",
]
