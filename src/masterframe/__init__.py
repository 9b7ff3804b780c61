"""masterframe: combine astronomical frames out of core and in parallel."""

__version__ = "0.1.0.dev0"
