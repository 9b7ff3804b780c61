# What `__getattr__` of the package finds, for type checkers and editors.
from masterframe.combine import combine_stack
from masterframe.config import load_config
from masterframe.errors import MasterframeError
from masterframe.fits.masters import open_master
from masterframe.fromstack import write_master
from masterframe.model import (
    Adjustment,
    Calibration,
    Config,
    Exposure,
    Frame,
    MaskBit,
    MasterImage,
    Noise,
    Plan,
    Problem,
    Product,
    Recipe,
    Rejection,
)
from masterframe.night import make_plan, scan_night
from masterframe.run import run_night
from masterframe.xarray_api.accessors import open_stack
from masterframe.xarray_api.ccddata import from_ccddata

__version__: str

__all__ = [
    "Adjustment",
    "Calibration",
    "Config",
    "Exposure",
    "Frame",
    "MaskBit",
    "MasterImage",
    "MasterframeError",
    "Noise",
    "Plan",
    "Problem",
    "Product",
    "Recipe",
    "Rejection",
    "__version__",
    "combine_stack",
    "from_ccddata",
    "load_config",
    "make_plan",
    "open_master",
    "open_stack",
    "run_night",
    "scan_night",
    "write_master",
]
