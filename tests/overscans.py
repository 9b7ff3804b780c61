"""Models of an overscan, and the same in the words of ccdproc."""

from astropy.modeling import models

from masterframe.model import OverscanModel

OF_CCDPROC = [
    (OverscanModel("median"), {"median": True}),
    (OverscanModel("mean", iterations=0), {"median": False}),
    (
        OverscanModel("legendre", order=3, iterations=0),
        {"median": True, "model": models.Legendre1D(3)},
    ),
    (
        OverscanModel("chebyshev", order=2, iterations=0),
        {"median": True, "model": models.Chebyshev1D(2)},
    ),
]
