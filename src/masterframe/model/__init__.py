"""The frozen types that every layer speaks.

A night is a set of `Exposure`; each holds one `Frame` an image. A `Recipe` says how frames of one
kind become a `Product`; a `Plan` holds the products in the order in which they can be made. Axes
are numpy's, (y, x); sections are 0-based and half-open; times are UTC; values are in adu until a
flat divides them.
"""

from masterframe.model.calibrations import Calibration, MasterImage
from masterframe.model.configuration import Certificates, ClusterSpec, Config
from masterframe.model.exposures import Exposure, MasterRole, Problem, StoredMaster
from masterframe.model.frames import (
    Amplifier,
    Frame,
    Header,
    Image,
    MaskBit,
    Packing,
    Scalar,
    Scaling,
    Section,
    Tiles,
    Verify,
    all_overscans,
    kept_shape,
    serves_columns,
)
from masterframe.model.instruments import (
    AmplifierKeywords,
    AmplifierRule,
    AppliedRule,
    Condition,
    Detector,
    Instrument,
    Keyword,
    Keywords,
    Kind,
    Light,
    SectionRule,
    Selection,
    Step,
    TypeRule,
)
from masterframe.model.limits import FrameLimits, MasterLimits, Quality, Tolerances
from masterframe.model.plans import Association, Candidate, MasterPart, Plan, Product
from masterframe.model.recipes import (
    ALGORITHM_VERSION,
    Adjustment,
    Center,
    Deviation,
    Estimator,
    Noise,
    OverscanModel,
    ProductRecipe,
    Recipe,
    Rejection,
)
from masterframe.model.results import BandResult, FrameCounts

__all__ = [
    "ALGORITHM_VERSION",
    "Adjustment",
    "Amplifier",
    "AmplifierKeywords",
    "AmplifierRule",
    "AppliedRule",
    "Association",
    "BandResult",
    "Calibration",
    "Candidate",
    "Center",
    "Certificates",
    "ClusterSpec",
    "Condition",
    "Config",
    "Detector",
    "Deviation",
    "Estimator",
    "Exposure",
    "Frame",
    "FrameCounts",
    "FrameLimits",
    "Header",
    "Image",
    "Instrument",
    "Keyword",
    "Keywords",
    "Kind",
    "Light",
    "MaskBit",
    "MasterImage",
    "MasterLimits",
    "MasterPart",
    "MasterRole",
    "Noise",
    "OverscanModel",
    "Packing",
    "Plan",
    "Problem",
    "Product",
    "ProductRecipe",
    "Quality",
    "Recipe",
    "Rejection",
    "Scalar",
    "Scaling",
    "Section",
    "SectionRule",
    "Selection",
    "Step",
    "StoredMaster",
    "Tiles",
    "Tolerances",
    "TypeRule",
    "Verify",
    "all_overscans",
    "kept_shape",
    "serves_columns",
]
