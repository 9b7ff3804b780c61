"""The history of one pixel: what each frame gave, what was taken off, and what was rejected when.

Pixels are array indices, 0-based; only the command line counts from 1 as FITS does.

The combination itself is run again for the pixel's row, by the code that made the master, and what
it gives is compared with what the master holds; the passes are told by
`masterframe.kernels.pixel_history`, which runs the same compiled rule.
"""

from masterframe.explain.combination import explain_stack
from masterframe.explain.history import FATES, Fate, Pass, PixelFrame, PixelHistory, PixelValue
from masterframe.explain.master import explain_master

__all__ = [
    "FATES",
    "Fate",
    "Pass",
    "PixelFrame",
    "PixelHistory",
    "PixelValue",
    "explain_master",
    "explain_stack",
]
