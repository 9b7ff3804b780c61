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
# # From a night to masters
#
# A folder of raw frames goes in; masters, calibrated frames and a report come out. This notebook
# takes the steps one by one on a simulated night whose truth is known, faults included. Then it
# draws the plots of the report again, from the numbers in the masters, and says how to read each.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]
import json
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from astropy.table import Table

import masterframe as mf
from masterframe.simulate import Camera, NightSpec, simulate_night

plt.rcParams |= {"figure.dpi": 64, "date.converter": "concise", "legend.frameon": False}
folder = Path(tempfile.mkdtemp(prefix="masterframe-"))
spec = NightSpec(
    Camera(shape=(400, 440)),
    bias=12,
    darks={120.0: 10},
    flats={"V": 10},
    science={"V": 3},
    defects=("light_leak", "saturated", "truncated", "no_imagetyp", "duplicate"),
    seed=7,
)
truth = simulate_night(folder, spec)
camera = spec.camera
print(f"{len(list(truth.night.iterdir()))} files in {truth.night.name}/")

# %% [markdown]
# ## What is there
#
# In a terminal this is `masterframe scan night`. Headers alone are read. Each file becomes an
# exposure of some kind, or a problem with its reason.

# %%
config = mf.load_config()  # the defaults; else the path of a YAML file
exposures, problems = mf.scan_night([truth.night], config)
kinds = [exposure.kind for exposure in exposures]
for kind in dict.fromkeys(kinds):
    print(f"{kinds.count(kind):3} {kind or 'of unknown kind'}")
for problem in problems:
    print(f"{Path(problem.path).name}: {problem.reason}")
assert {Path(problem.path).name for problem in problems} == {
    *("copy_of_bias_001.fits", "frame_001.fits", "ngc6819_V_004.fits")
}

# %% [markdown]
# Three of the five faults that were planted show in headers and sizes: a copy, a frame that does
# not say what it is, a truncated file. The others need pixels, and come to light later.
#
# ## What would be made
#
# `masterframe plan night`: the products in the order in which they can be made, and what each
# takes.

# %%
plan = mf.make_plan(exposures, problems, config)
for product in plan.products:
    print(f"{product.name}: {len(product.exposures)} frames")
    for use in product.uses:
        print(f"    {use.role:5} {use.product.partition('/')[2]} ({use.reason})")

# %% [markdown]
# ## Make it
#
# `masterframe run night -o reduced` does all of it in one line; so does `run_night`. A second run
# makes nothing, since everything is up to date.

# %%
out = folder / "reduced"
report = mf.run_night(truth.night, out)
for outcome in report.outcomes:
    tests = ", ".join(test.name for test in outcome.tests if test.verdict in ("warn", "fail"))
    print(f"{outcome.name:30} {outcome.state}, {outcome.n_frames:2} frames; {tests or 'all well'}")
    for note in outcome.notes:
        print("   ", note.replace(f"{truth.night}/", "")[:120])
assert report.exit_code == 0
again = mf.run_night(truth.night, out)
assert {outcome.state for outcome in again.outcomes} == {"up to date"}

# %% [markdown]
# The other two faults are found: light fell on `bias_013`, and `flat_V_011` is saturated. They are
# left out because they differ from the rest of their group, and the master says so.
#
# ## The masters
#
# A master is a FITS file with its uncertainty, its mask and the number of values kept. astropy
# reads it as `CCDData`; here xarray opens the planes.

# %%
names = {"bias": "bias_bin1x1", "dark": "dark_120s_bin1x1", "flat": "flat_V_bin1x1"}
paths = {kind: out / "night" / f"master_{name}.fits" for kind, name in names.items()}
masters = {kind: xr.open_dataset(path, engine="masterframe").load() for kind, path in paths.items()}
inputs = {kind: Table.read(path, hdu="INPUTS") for kind, path in paths.items()}
quality = {
    kind: {row["name"]: row["value"] for row in Table.read(path, hdu="QUALITY")}
    for kind, path in paths.items()
}
masters["dark"]

# %% [markdown]
# # What each plot means
#
# The report, `reduced/report/index.html`, shows these plots for each master.
#
# ## The master
#
# *Good:* a smooth bias, with columns and a wave that the detector always has; a dark with single
# hot pixels and perhaps a glowing corner; a flat with the shadow of the optics, and rings of dust.
# *Bad:* a trail, a patch, stars, a band that no other night has.

# %%
figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for axes, (kind, planes) in zip(panels, masters.items(), strict=True):
    low, high = np.nanpercentile(planes["data"], [1, 99])
    shown = axes.imshow(planes["data"], origin="lower", vmin=low, vmax=high, cmap="gray")
    figure.colorbar(shown, ax=axes, shrink=0.8, label=planes["data"].attrs.get("units") or None)
    axes.set_title(f"master {kind}")

# %% [markdown]
# The bias is near 0 because the level of each row was taken off by its overscan.
#
# ## Values
#
# The histogram of the pixels, and the Gaussian that the noise alone would give. A peak wider than
# the Gaussian is structure of the detector: the columns and the wave above. A tail is hot or dead
# pixels. A comb is a converter that leaves out numbers.

# %%
figure, panels = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
for axes, (kind, planes) in zip(panels, masters.items(), strict=True):
    values = planes["data"].values[planes["mask"].values == 0]
    low, high = np.percentile(values, [0.02, 99.9])
    edges = np.linspace(low, high, 120)
    axes.hist(values, edges, histtype="step", log=True, label="pixels")
    noise, middle = quality[kind]["typical"], np.median(values)
    gauss = np.exp(-0.5 * ((edges - middle) / noise) ** 2) / (noise * np.sqrt(2 * np.pi))
    axes.plot(edges, values.size * (edges[1] - edges[0]) * gauss, label="noise alone")
    axes.set(title=kind, xlabel="value", ylabel="pixels", ylim=(0.5, 1e5))
_ = panels[0].legend()
# %% [markdown]
# ## Profiles
#
# The median of every column and of every row. *Good:* flat or smooth. *Bad:* a step (two amplifiers
# with different levels), a spike (a bad column), a slope in a bias (light, or a level that drifts).

# %%
figure, panels = plt.subplots(2, 3, figsize=(13, 5), layout="constrained", sharey="col")
for (above, below), (kind, planes) in zip(panels.T, masters.items(), strict=True):
    above.plot(planes["data"].median("y"), lw=0.8)
    below.plot(planes["data"].median("x"), lw=0.8)
    above.set(title=kind, xlabel="column", ylabel="median")
    below.set(xlabel="row", ylabel="median")

# %% [markdown]
# ## Noise against the number of frames
#
# One frame, and the result: both should lie on a line of $1/\sqrt N$. The noise of the result is
# measured, not computed: from the difference of the mean of the even frames and that of the odd
# ones. If it lies above the line, the frames share noise that no further frame takes away.

# %%
figure, panels = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
for axes, (kind, numbers) in zip(panels, quality.items(), strict=True):
    used = inputs[kind][inputs[kind]["status"] == "used"]
    single, count = np.median(np.asarray(used["noise"])), len(used)
    axes.loglog([1, count], [single, single / count**0.5], "--", color="gray", label="1/sqrt(N)")
    axes.loglog([1], [single], "o", label="one frame")
    axes.loglog([count], [numbers["noise"]], "X", ms=9, label="result, by halves")
    axes.set(title=kind, xlabel="frames", ylabel="noise")
    ratio = numbers["typical"] / numbers["expected"]
    print(f"{kind}: noise of the result over that expected of gain and read noise {ratio:.3f}")
    assert abs(ratio - 1) < 0.03
_ = panels[0].legend()
# %% [markdown]
# ## Level and rejected values of each frame
#
# *Good:* levels within a band, and the same small fraction of values rejected in each frame. A ramp
# is a lamp that warms up, or twilight. One frame that loses many values has a trail or a plane in
# it: here the satellite that crosses one of the flats. Crosses are frames that were left out.

# %%
figure, panels = plt.subplots(2, 3, figsize=(13, 5.4), layout="constrained", sharex="col")
for (above, below), (kind, rows) in zip(panels.T, inputs.items(), strict=True):
    start = np.array(rows["date_obs"], "datetime64[s]")
    used = np.array(rows["status"] == "used")
    above.plot(start[used], rows["level"][used], "o")
    above.plot(start[~used], rows["level"][~used], "X", color="tab:red", ms=8)
    given = rows["kept"] + rows["rejected_low"] + rows["rejected_high"]
    lost = (rows["rejected_low"] + rows["rejected_high"])[used] / given[used]
    below.plot(start[used], 100 * lost, "o")
    above.set(title=kind, ylabel="level (adu)")
    below.set(ylabel="rejected (%)", xlabel="start (UTC)")
flats = inputs["flat"][inputs["flat"]["status"] == "used"]
crossed = Path(flats["path"][np.argmax(flats["rejected_high"])]).name
print(f"most values lost by {crossed}")
assert truth.trail(crossed).y.size  # the frame that the satellite was sent through

# %% [markdown]
# ## Values kept
#
# How many values went into each pixel. *Good:* single specks, evenly spread. A line is a trail that
# was taken out, as in the flat; a block or a band means that rule and frames do not fit.

# %%
figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for axes, (kind, planes) in zip(panels, masters.items(), strict=True):
    lost = int(planes["count"].max()) - planes["count"].astype(int)
    axes.imshow(lost, origin="lower", vmin=0, vmax=1, cmap="gray_r")
    axes.set_title(f"{kind}: {int((lost > 0).sum())} pixels lost a value")

# %% [markdown]
# Of one such pixel `explain` tells everything.

# %%
ys, xs = np.nonzero(masters["flat"]["count"].values < 10)
middle = ys.size // 2
stack = mf.open_stack(list(flats["path"]))
told = stack.mf.explain(
    x=int(xs[middle]),
    y=int(ys[middle]),
    calibration=mf.Calibration(scale=tuple(np.asarray(flats["scale"], float))),
)
told.plot()

# %% [markdown]
# ## Hot pixels
#
# The dark current of each pixel, sorted. *Good:* a flat line with a short tail. The mask of the
# master marks what is above the limit, here all that were planted and no other.

# %%
dark, mask = masters["dark"]["data"].values, masters["dark"]["mask"].values
marked = (mask & mf.MaskBit.HOT) != 0
planted = np.zeros(dark.shape, bool)
planted[truth.hot_pixels().y, truth.hot_pixels().x] = True
assert np.array_equal(marked, planted)

rate = np.sort(dark.ravel())[::-1] * camera.gain / 120
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
axes.loglog(np.arange(1, rate.size + 1), rate.clip(1e-3), lw=1.2)
axes.axvline(marked.sum(), color="tab:red", lw=1, label=f"{marked.sum()} marked as hot")
axes.set(xlabel="pixels at least as bright", ylabel="dark current (e-/s)")
_ = axes.legend()
# %% [markdown]
# ## The detector
#
# In flats the variance of a pixel grows with its signal: variance = signal / gain + read noise^2.
# So the slope gives the gain, and the biases give the read noise. The report compares both with
# what the headers say. A point above the line has more than photon noise in it: it is the flat that
# the satellite crossed.

# %%
document = json.loads((out / "report" / "report.json").read_text())
(detector,) = document["detectors"]
points = detector["points"]
signal, variance = (np.array([point[key] for point in points]) for key in ("signal", "variance"))
line = np.linspace(signal.min() * 0.99, signal.max() * 1.01)
read = detector["read_noise"] / detector["gain"]
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
axes.plot(signal, variance, "o", label="flats")
axes.plot(line, line / detector["gain"] + read**2, label=f"gain {detector['gain']:.3f} e-/adu")
axes.set(xlabel="signal (adu)", ylabel="variance (adu²)")
axes.legend()
for what, found, planted in (
    ("gain (e-/adu)", detector["gain"], camera.gain),
    ("read noise (e-)", detector["read_noise"], camera.read_noise),
    ("dark current (e-/s)", detector["dark_current"], camera.dark_current),
):
    print(f"{what:20} measured {found:.4f}, true {planted:.4f}")
    assert abs(found / planted - 1) < 0.05

# %% [markdown]
# ## The science frames
#
# Before and after: bias, dark current and the shadow of the optics are gone. Cosmic rays stay, for
# nothing was combined yet.

# %%
raw = mf.open_stack(truth.night / "ngc6819_V_001.fits")[0, :, : camera.shape[1]]
reduced = xr.open_dataset(
    out / "night" / "calibrated" / "ngc6819_V_001.fits", engine="masterframe"
).load()
figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
for axes, image, title in ((panels[0], raw, "raw"), (panels[1], reduced["data"], "calibrated")):
    low, high = np.nanpercentile(image, [0.5, 90])
    shown = axes.imshow(image, origin="lower", vmin=low, vmax=high, cmap="gray")
    figure.colorbar(shown, ax=axes, shrink=0.8, label="adu")
    axes.set_title(title)
sky = float(reduced["data"].where(reduced["mask"] == 0).median()) * camera.gain
true_sky = truth.shot("ngc6819_V_001.fits").light
print(f"sky {sky:.1f} e-, true {true_sky:.1f} e-")
assert abs(sky / true_sky - 1) < 0.02

# %% [markdown]
# ## In one glance
#
# The first line of the report sums up all tests, and `masterframe verify reduced` ends with exit
# code 1 if one fails.

# %%
print(document["headline"])
assert document["verdict"] == "pass"
shutil.rmtree(folder)
