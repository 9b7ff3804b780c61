"""What masterframe is to users of xarray: accessors ``.mf``, a backend, and a way to CCDData."""
