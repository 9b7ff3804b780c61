"""ccdproc.combine within 2 GB: OUTPUT INPUT..."""

import sys

import ccdproc

output, *paths = sys.argv[1:]
ccdproc.combine(
    paths,
    output_file=output,
    method="average",
    sigma_clip=True,
    sigma_clip_low_thresh=5,
    sigma_clip_high_thresh=5,
    sigma_clip_func="median",
    sigma_clip_dev_func="mad_std",
    mem_limit=2e9,
    dtype="float32",
    unit="adu",
)
