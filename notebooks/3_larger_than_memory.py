# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exploring a stack larger than memory
#
# Two thousand frames of 4096 x 4096 pixels are 67 GB. This notebook looks at them from all sides on
# a small machine: an overview, the history of one pixel, one row of all frames, cut-outs, and
# clipping with several thresholds on a window before the long run. It never takes more than 1 GB.
#
# ## The frames
#
# A binary star, observed with a long-slit spectrograph every 15 seconds. Light falls on 24 of 4096
# rows. The files are sparse: the dark rows were never written, and take no room on the disk. To
# every program they are 2 000 ordinary files of 34 MB each.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

plt.rcParams |= {"figure.dpi": 72, "date.converter": "concise"}
FRAMES, ROWS, COLUMNS = 2000, 4096, 4096
SLIT = slice(2036, 2060)  # the rows that see light
NOISE = 3.0  # of one read; the gain is 1
folder = Path(tempfile.mkdtemp(prefix="masterframe-"))
wavelength = np.linspace(400, 700, COLUMNS)  # nm


def spectrum(shift):
    """Return the light of the star with its lines shifted by so many nm."""
    light = 900 * np.exp(-(((wavelength - 550) / 150) ** 2))
    for line, depth in ((434.0, 0.6), (486.1, 0.7), (589.3, 0.4), (656.3, 0.7)):
        light *= 1 - depth * np.exp(-0.5 * ((wavelength - line - shift) / 1.2) ** 2)
    return light


def write_frame(number):
    """Write one frame: its header, the rows of the slit, and the length of the whole."""
    rng = np.random.default_rng([5, number])
    phase = 6 * np.pi * number / FRAMES
    across = np.exp(-0.5 * ((np.arange(24) - 11.5) / 3) ** 2)
    light = across[:, None] * spectrum(4 * np.sin(phase)) * (1 - 0.05 * np.cos(2 * phase))
    values = light + rng.standard_normal(light.shape) * np.sqrt(light + NOISE**2)
    for _ in range(rng.poisson(3)):  # cosmic rays
        row, column = rng.integers(22), rng.integers(COLUMNS - 3)
        values[row : row + 2, column : column + 3] += rng.uniform(500, 8000)
    start = np.datetime64("2026-06-20T21:00:00") + 15 * number
    cards = [
        *("SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2"),
        *(f"NAXIS1  = {COLUMNS}", f"NAXIS2  = {ROWS}", f"DATE-OBS= '{start}'"),
        *("EXPTIME = 10.0", "END"),
    ]
    with (folder / f"spectrum_{number:04}.fits").open("wb") as file:
        file.write("".join(card.ljust(80) for card in cards).ljust(2880).encode())
        file.seek(2880 + SLIT.start * COLUMNS * 2)
        file.write(np.rint(values).astype(">i2").tobytes())
        file.truncate(2880 * -(-(2880 + ROWS * COLUMNS * 2) // 2880))


with ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(write_frame, range(FRAMES)))
sizes = [path.stat() for path in folder.iterdir()]
print(f"{len(sizes)} files, {sum(size.st_size for size in sizes) / 1e9:.0f} GB")
print(f"on the disk {sum(size.st_blocks for size in sizes) * 512 / 1e9:.1f} GB")

# %% [markdown]
# ## Open it
#
# `open_stack` reads the headers. What it gives is an ordinary `xarray.DataArray`, in the type of
# the files, which reads pixels when they are asked for. A chunk is a band of rows of all frames,
# and Dask works on as many chunks at a time as there are cores: bands of 4 rows are 66 MB each.

# %%
import masterframe as mf

began = time.monotonic()
stack = mf.open_stack(f"{folder}/spectrum_*.fits", rows=4)
print(f"opened in {time.monotonic() - began:.1f} s: {stack.nbytes / 1e9:.0f} GB")
stack

# %% [markdown]
# ## An overview
#
# `preview` takes 16 frames, evenly spaced, and every eighth pixel of them. It reads one row in
# eight of these frames, and nothing of the others.

# %%
began = time.monotonic()
small = stack.mf.preview().compute()
took = time.monotonic() - began
print(f"{small.shape[0]} small images of {small.shape[1:]} in {took:.1f} s")
assert took < 5

figure, panels = plt.subplots(2, 8, figsize=(12, 3.5), layout="constrained")
for axes, image in zip(panels.flat, small, strict=True):
    axes.imshow(image, origin="lower", vmin=0, vmax=150, cmap="gray", extent=(0, COLUMNS, 0, ROWS))
    axes.set_title(str(image["time"].values)[11:19], fontsize=10)
    axes.set(xticks=[], yticks=[])

# %% [markdown]
# Almost everything is dark, so look at a part: a cut-out of the stack is a stack again. `isel`
# counts rows and columns from 0, and reads only what it selects.

# %%
slit = stack.isel(y=SLIT)
near_beta = slit.isel(x=slice(1080, 1280))
look = {"origin": "lower", "vmin": 0, "vmax": 800, "aspect": "auto"}
look["extent"] = (1080, 1280, SLIT.start, SLIT.stop)
figure, panels = plt.subplots(2, 2, figsize=(11, 3.6), layout="constrained")
for axes, image in zip(panels.T.flat, near_beta[[0, 160, 320, 500]].compute(), strict=True):
    axes.imshow(image, **look)
    axes.set_title(str(image["time"].values)[11:19], fontsize=10)
_ = panels[1, 0].set(xlabel="column", ylabel="row")
# %% [markdown]
# The dark line moves from frame to frame.
#
# ## The history of one pixel
#
# A row of each of the 2 000 files is opened; the rest of them is not touched.

# %%
ROW, COLUMN = 2047, 1176
began = time.monotonic()
history = stack[:, ROW, COLUMN].compute()
took = time.monotonic() - began
print(f"{history.size} values in {took:.2f} s")
assert took < 2

figure, axes = plt.subplots(figsize=(11, 3.4), layout="constrained")
axes.plot(history["time"], history, ".", markersize=3)
axes.set(xlabel="start (UTC)", ylabel="value (adu)", title=f"row {ROW}, column {COLUMN}")
_ = axes.set_ylim(0, 900)
# %% [markdown]
# The dips are no noise and no fault: that is the line, which crosses this pixel twice in each
# orbit. One row of all frames shows it at once. Time runs upwards, wavelength to the right; bright
# specks are cosmic rays.

# %%
began = time.monotonic()
trail = stack[:, ROW].compute()
print(f"one row of {len(trail)} frames in {time.monotonic() - began:.2f} s")

figure, panels = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", width_ratios=(2, 1))
for axes, part in zip(panels, (slice(None), slice(1000, 1360)), strict=True):
    ends = wavelength[part][[0, -1]]
    axes.imshow(
        trail[:, part], origin="lower", aspect="auto", vmin=0, vmax=900, extent=(*ends, 0, FRAMES)
    )
    axes.set(xlabel="wavelength (nm)", ylabel="frame")
print(f"brightest value {int(trail.max())}")

# %% [markdown]
# ## Try thresholds on a window
#
# How many sigmas? Combining 67 GB to find out takes minutes. A window takes seconds and gives, bit
# for bit, the pixels that the long run would give. Two windows are tried: one where there is no
# line, and one that the line crosses.

# %%
windows = {"no line": slice(2000, 2200), "line": slice(1080, 1280)}
print("window    bound   values rejected   of them low   most in one pixel")
rejected = {}
for name, columns in windows.items():
    for bound in (3, 4, 5, 8):
        planes = slit.isel(x=columns).mf.combine(low=bound, high=bound, planes="rejlow,rejhigh")
        planes = planes.compute()
        low, high = int(planes["rejlow"].sum()), int(planes["rejhigh"].sum())
        share = (low + high) / slit.isel(x=columns).size
        rejected[name, bound] = share
        most = int((planes["rejlow"] + planes["rejhigh"]).max())
        print(f"{name:8} {bound:5}   {share:14.4%}   {low / (low + high):11.0%}   {most:16}")
assert 0.002 < rejected["no line", 3] < 0.004  # the normal distribution's 0.27 %
hit = 3 * 6 / (24 * COLUMNS)  # three cosmic rays of six pixels in each frame
assert 0.8 * hit < rejected["no line", 5] < 1.2 * hit
assert rejected["line", 3] > 3 * rejected["no line", 3]

# %% [markdown]
# Where there is no line, 3 sigma costs some 0.3 % of the good values, as it must of normal ones
# (0.27 %), and 5 sigma leaves out the cosmic rays alone. Where the line passes, low values are
# rejected that are as real as the rest. The cure is to clip on the high side only, since cosmic
# rays only ever add:

# %%
for name, columns in windows.items():
    planes = slit.isel(x=columns).mf.combine(low="off", high=5, planes="rejlow,rejhigh").compute()
    print(
        f"{name:8} rejected: {int(planes['rejlow'].sum())} low, {int(planes['rejhigh'].sum())} high"
    )
    assert not planes["rejlow"].any()

# %% [markdown]
# `explain` says of one pixel what became of every value, and draws it: here of the pixel that the
# strongest cosmic ray hit.

# %%
hit = int(trail.values.max(axis=0).argmax())
told = stack.mf.explain(x=hit, y=ROW, low="off", high=5)
print(f"{told.combined.count} of {len(told.frames)} kept, {told.combined.data:.2f} adu")
told.plot()

# %% [markdown]
# ## The whole slit, then the long run
#
# The rows that see light are 393 MB of the 67 GB:

# %%
began = time.monotonic()
planes = slit.mf.combine(low="off", high=5).compute()
print(f"{slit.nbytes / 1e6:.0f} MB combined in {time.monotonic() - began:.1f} s")
mean = trail.mean("frame")  # of the row that was read above

excess = mean - planes["data"][11]
figure, (above, below) = plt.subplots(2, figsize=(11, 5), layout="constrained", sharex=True)
above.plot(wavelength, planes["data"][11], lw=0.8)
above.set(ylabel="clipped mean (adu)", title=f"row {ROW}")
below.plot(wavelength, excess, lw=0.8)
below.set(xlabel="wavelength (nm)", ylabel="plain mean minus clipped (adu)")
print(f"cosmic rays raise the plain mean by {float(excess.max()):.1f} adu at worst")
assert float(excess.max()) > 3 * float(planes["uncert"][11].median())

# %% [markdown]
# Everything, with a progress bar and within the memory given, is one line in a terminal, or
# `mf.write_master("master.fits", stack)` here:
#
# ```
# masterframe combine spectrum_*.fits -o master.fits --low off --high 5 --memory 1GB
# ```
#
# ## Sliders
#
# `pip install 'masterframe[explore]'` brings hvplot and panel. With them two pictures move:
# a slider sets the bound of the first, another pages through the frames of the second.


# %%
def trial(high):
    """Return a picture of what a bound leaves in a window of one row."""
    window = stack.isel(y=slice(2047, 2048), x=windows["line"])
    found = window.mf.combine(low="off", high=high).compute()
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.plot(window["x"], FRAMES - found["count"][0].astype(int), drawstyle="steps-mid")
    axes.set(xlabel="column", ylabel="values rejected", title=f"high = {high:g}")
    plt.close(figure)
    return figure


trial(4.0)

# %%
figure, axes = plt.subplots(figsize=(8, 2.4), layout="constrained")
axes.imshow(near_beta.sel(frame=700), **look)
_ = axes.set_title("frame 700")

# %%
try:
    import hvplot.xarray  # noqa: F401 - adds .hvplot
    import panel
except ImportError:
    panel = None
else:
    panel.extension()
    bound = panel.widgets.FloatSlider(name="high", start=2, end=8, step=0.5, value=4)
    shown = panel.Column(bound, panel.bind(trial, bound))
panel and shown

# %% [markdown]
# Each step of this one reads the rows of one file.

# %%
if panel:
    shown = near_beta.hvplot.image(
        x="x", y="y", groupby="frame", clim=(0, 800), cmap="viridis", width=700, height=250
    )
panel and shown

# %% [markdown]
# ## What it took

# %%
if Path("/proc/self/status").exists():
    (line,) = [row for row in Path("/proc/self/status").read_text().split("\n") if "VmHWM" in row]
    peak = int(line.split()[1]) * 1024
    print(f"most memory this notebook ever held: {peak / 1e9:.2f} GB")
    assert peak < 1e9
shutil.rmtree(folder)
