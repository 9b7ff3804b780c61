"""Functions of other programs by their own names and parameters, run by this engine."""
