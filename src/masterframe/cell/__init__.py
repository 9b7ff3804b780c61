"""What one task of a combination does: a cell of all frames becomes a cell of every plane.

A cell is a band of whole rows, or of one row a part where a row of all frames is too much for the
memory. Sums over a row are made in parts of so many columns and put together by who writes the
master, so that their bits are the same however rows were cut. Nothing here knows Dask.
"""

from masterframe.cell.band import BandJob, combine_band
from masterframe.cell.facts import FrameFacts, check_facts, check_known, is_above_bias
from masterframe.cell.noise import noise_floor, noise_terms, shared_rounding
from masterframe.cell.planes import plane_names, plane_type
from masterframe.cell.spans import BandSpan, band_spans, whole_rows
from masterframe.cell.steps import sampled_step, step_sample
from masterframe.cell.stored import band_job, chunks_of, combine_cells, places_of, rehearse

__all__ = [
    "BandJob",
    "BandSpan",
    "FrameFacts",
    "band_job",
    "band_spans",
    "check_facts",
    "check_known",
    "chunks_of",
    "combine_band",
    "combine_cells",
    "is_above_bias",
    "noise_floor",
    "noise_terms",
    "places_of",
    "plane_names",
    "plane_type",
    "rehearse",
    "sampled_step",
    "shared_rounding",
    "step_sample",
    "whole_rows",
]
