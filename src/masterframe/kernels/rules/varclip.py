"""``varclip``: values beyond ``low`` or ``high`` times their own uncertainty are dropped.

The centre is that of the values still kept, and each value is judged by its own uncertainty, which
came with its frame: ``ccd`` with variances that are given in place of those from gain and read
noise. With the centre median it is the varclip of DRAGONS (``gempy/library/nddops.py``).
"""

from masterframe.kernels.rules.ccd import mask

__all__ = ["mask"]
