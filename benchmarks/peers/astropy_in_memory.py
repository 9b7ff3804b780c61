"""astropy.stats.sigma_clip and numpy.nanmean on all frames at once: OUTPUT INPUT..."""

import sys

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clip

output, *paths = sys.argv[1:]
stack = np.stack([fits.getdata(path) for path in paths]).astype(np.float32)
clipped = sigma_clip(
    stack,
    sigma=5,
    maxiters=1,
    cenfunc="median",
    stdfunc="mad_std",
    axis=0,
    masked=False,
    copy=False,
)
fits.writeto(output, np.nanmean(clipped, axis=0))
