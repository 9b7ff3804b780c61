"""masterframe: combine astronomical frames out of core and in parallel.

>>> import masterframe as mf
>>> stack = mf.open_stack("night/bias_*.fits")  # doctest: +SKIP
>>> stack.mf.combine().data.plot()  # doctest: +SKIP

Every name is loaded when it is first asked for: importing the package costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0.dev0"

_HOMES = {
    **dict.fromkeys(
        ("Adjustment", "Calibration", "Config", "Exposure", "Frame", "MaskBit", "MasterImage"),
        "model",
    ),
    **dict.fromkeys(("Noise", "Plan", "Problem", "Product", "Recipe", "Rejection"), "model"),
    "MasterframeError": "errors",
    "combine_stack": "combine",
    "load_config": "config",
    "make_plan": "night",
    "open_master": "fits.masters",
    "from_ccddata": "xarray_api.ccddata",
    "open_stack": "xarray_api.accessors",  # which registers `stack.mf`
    "run_night": "run",
    "scan_night": "night",
    "write_master": "fromstack",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 - the keys are names


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
