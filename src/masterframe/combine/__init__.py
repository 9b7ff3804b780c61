"""A lazy stack and a recipe become a lazy result: one task a cell, from one read.

A cell is a band of whole rows, or of one row a part where a row of all frames is too much for the
memory. Sums over a row are made in parts of so many columns and put together by who writes the
master, so that their bits are the same however rows were cut.
"""

from masterframe.combine.cells import trim_rows
from masterframe.combine.changed import LazyValues
from masterframe.combine.facts import facts_of, stack_scale
from masterframe.combine.lazy import combine_stack, fit_calibration
from masterframe.combine.result import Combined, even_chunks
from masterframe.combine.steps import measured_step, quantisation_step

__all__ = [
    "Combined",
    "LazyValues",
    "combine_stack",
    "even_chunks",
    "facts_of",
    "fit_calibration",
    "measured_step",
    "quantisation_step",
    "stack_scale",
    "trim_rows",
]
