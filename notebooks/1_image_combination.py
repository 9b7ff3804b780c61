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
# # Average, median, or clipped average?
#
# Astronomers take the same frame many times and combine the frames, for two reasons: noise falls as
# $1/\sqrt N$, and what shows in one frame alone (a cosmic ray, a satellite) can be recognised and
# removed. This notebook makes the whole argument for the way in which masterframe combines, first
# with numpy on random numbers, then with masterframe on FITS files.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

LEVEL, SIGMA, OUTLIER = 1000.0, 30.0, 2000.0
rng = np.random.default_rng(12)
frames = rng.normal(LEVEL, SIGMA, (100, 320, 320))
corner = np.s_[:96, :96]  # what the pictures show: pixels that one can see

# %% [markdown]
# ## One frame and the average of a hundred
#
# A hundred frames of 320 x 320 pixels: Gaussian noise of 30 about a level of 1000.

# %%
average = frames.mean(axis=0)
print(f"noise of one frame    {frames[0].std():6.2f}")
print(f"noise of the average  {average.std():6.2f}   (30 / sqrt(100) = {SIGMA / 10:.2f})")
assert abs(average.std() / (SIGMA / 10) - 1) < 0.02

# %%
bins = np.arange(850, 1151, 2)
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
for axes, image, title in ((left, frames[0], "one frame"), (middle, average, "average of 100")):
    axes.imshow(image[corner], origin="lower", vmin=900, vmax=1100, cmap="gray")
    axes.set_title(title)
right.hist(frames[0].ravel(), bins, histtype="step", label="one frame")
right.hist(average.ravel(), bins, histtype="step", label="average of 100")
right.set(title="their values", xlabel="value", ylabel="pixels")
right.legend(frameon=False)

# %% [markdown]
# ## The average does not forget
#
# Now a cosmic ray hits one of the frames: 50 of its pixels read 2000. In the average of N frames
# each of them stays too high by $1000/N$, which is ten times the noise for N = 10, and still more
# than three times for N = 100. The median does not care.

# %%
hit = np.zeros((320, 320), bool)
hit.ravel()[rng.choice(hit.size, 50, replace=False)] = True
frames[7][hit] = OUTLIER
print("  N            noise elsewhere   mean of the 50 pixels")
for n in (10, 100):
    average, median = frames[:n].mean(axis=0), np.median(frames[:n], axis=0)
    for name, image in (("average", average), ("median", median)):
        print(f"{n:3}  {name:8}  {image[~hit].std():12.2f}  {image[hit].mean():20.2f}")
    assert average[hit].mean() - LEVEL > 3 * average[~hit].std()
    assert abs(median[hit].mean() - LEVEL) < median[~hit].std()

# %% [markdown]
# On a logarithmic scale the 50 pixels stand apart from the rest in the histogram of the average of
# ten, and are lost among them in that of the median. But the median has a price: it is the noisier
# one. For many Gaussian values its noise is $\sqrt{\pi/2} = 1.2533$ times that of the average, as
# if more than a third of the frames had been thrown away.

# %%
ratio = median[~hit].std() / average[~hit].std()  # of all 100
print(f"noise of the median over that of the average: {ratio:.3f}")
assert abs(ratio - np.sqrt(np.pi / 2)) < 0.02

few = frames[:10]
combined = {"average of 10": few.mean(axis=0), "median of 10": np.median(few, axis=0)}
bins = np.arange(940, 1140, 2)
figure, panels = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
for axes, (name, image) in zip(panels, combined.items(), strict=False):
    axes.imshow(image[corner], origin="lower", vmin=940, vmax=1060, cmap="gray")
    axes.set_title(name)
    panels[2].hist(image.ravel(), bins, histtype="step", log=True, label=name)
panels[2].set(title="their values, log scale", xlabel="value", ylabel="pixels")
panels[2].legend(frameon=False)

# %% [markdown]
# ## Leave out what is far away, and average the rest
#
# "Far" is measured in units of the spread of the pixel's own N values. The obvious measures, mean
# and standard deviation, are both pulled by the very value that they should expose. One value among
# N can never be more than $\sqrt{N-1}$ standard deviations from the mean, **however far away it
# is**: 3 of them for N = 10, 4.4 for N = 20. A clip at 5 sigma cannot reject it.
#
# The median hardly moves for one bad value, and neither does the *median absolute deviation*
# $\mathrm{MAD} = \mathrm{median}\,|x - \mathrm{median}(x)|$; times 1.4826 it estimates the standard
# deviation of Gaussian values.


# %%
def mad_sigma(values):
    """Return 1.4826 times the median absolute deviation of values along axis 0."""
    return 1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0)


with_hit = frames[:, hit]  # the 100 values of each of the 50 pixels, number 7 of them is bad
print("  N   sqrt(N-1)   (2000 - mean)/std   rejected   (2000 - median)/MAD sigma   rejected")
for n in (10, 20, 100):
    values = with_hit[:n]
    by_std = (OUTLIER - values.mean(axis=0)) / values.std(axis=0)
    by_mad = (OUTLIER - np.median(values, axis=0)) / mad_sigma(values)
    print(
        f"{n:3}   {np.sqrt(n - 1):9.2f}   {by_std.min():7.2f} to {by_std.max():5.2f}   "
        f"{np.mean(by_std > 5):10.0%}   {by_mad.min():12.1f} to {by_mad.max():7.1f}   "
        f"{np.mean(by_mad > 5):10.0%}"
    )
    assert np.all(by_std <= np.sqrt(n - 1))
    assert np.all(by_std > 5) if n == 100 else np.all(by_std < 5)
    assert np.all(by_mad > 5)

# %% [markdown]
# So: drop on both sides what is more than 10 MAD sigma from the median, and average the rest. The
# result is free of the cosmic ray like the median, and as quiet as the average.

# %%
median, spread = np.median(frames, axis=0), mad_sigma(frames)
kept = np.abs(frames - median) <= 10 * spread
clipped = np.where(kept, frames, 0).sum(axis=0) / kept.sum(axis=0)

print(f"{(~kept).sum()} values left out")
print("                 noise   largest value")
for name, image in (("average", average), ("median", median), ("clipped average", clipped)):
    print(f"{name:15} {image[~hit].std():6.2f} {image.max():11.1f}")
assert (~kept).sum() == 50
assert np.array_equal(~kept[7], hit)
assert clipped.std() < median.std()
assert clipped.max() < LEVEL + 6 * SIGMA / 10

figure, panels = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
for axes, n in zip(panels, (10, 100), strict=True):
    some = frames[:n]
    center, spread = np.median(some, axis=0), mad_sigma(some)
    good = np.where(np.abs(some - center) <= 10 * spread, some, np.nan)
    bins = np.linspace(LEVEL - 6.5 * SIGMA / n**0.5, LEVEL + 14 * SIGMA / n**0.5, 100)
    for name, image in (
        ("average", some.mean(axis=0)),
        ("median", center),
        ("clipped average", np.nanmean(good, axis=0)),
    ):
        axes.hist(image.ravel(), bins, histtype="step", log=True, label=name)
    axes.set(xlabel="value", ylabel="pixels", title=f"50 pixels have an outlier among {n} values")
    axes.legend(frameon=False)

# %% [markdown]
# ### The median absolute deviation, not the mean one
#
# MAD is also read as "mean absolute deviation", and some texts define it so. That measure is not
# robust: one value at 2000 among ten raises it by about $2 \cdot 1000 \cdot 9 / 10^2 = 180$ about
# the mean, or by 100 about the median; scaled to Gaussian values (times 1.2533) it becomes as large
# as the distance it should judge, and a limit of 10 sigma rejects nothing.

# %%
values = with_hit[:10]
middle = np.median(values, axis=0)
mean_dev = np.sqrt(np.pi / 2) * np.abs(values - middle).mean(axis=0)
for name, sigma in (
    ("mean absolute deviation", mean_dev),
    ("median absolute deviation", mad_sigma(values)),
):
    reach = (OUTLIER - middle) / sigma
    print(
        f"{name:25}  sigma {sigma.mean():6.1f}   "
        f"2000 is {reach.min():5.1f} to {reach.max():6.1f} of them away"
    )
assert np.all((OUTLIER - middle) / mean_dev < 10)
assert np.all((OUTLIER - middle) / mad_sigma(values) > 10)

# %% [markdown]
# ## The same with masterframe
#
# Median and MAD need all values of a pixel at once, and a night's frames are larger than memory.
# masterframe reads them in bands of rows, and sorts, clips and averages each band in compiled code.
# Twenty simulated bias frames with cosmic rays lie on disk as FITS files:

# %%
import masterframe as mf
from masterframe.model import Recipe, Rejection
from masterframe.simulate import Camera, NightSpec, simulate_night

folder = Path(tempfile.mkdtemp(prefix="masterframe-"))
spec = NightSpec(Camera(shape=(256, 320)), bias=20, darks={}, flats={}, science={}, seed=4)
truth = simulate_night(folder / "example", spec)
stack = mf.open_stack(str(truth.night / "bias*.fits"))
stack

# %% [markdown]
# Only headers have been read. One pixel through all frames reads one row of each file:

# %%
print(stack[:, 100, 200].values)

# %% [markdown]
# The default recipe leaves out what is more than five MAD sigma from the median and averages the
# rest. Nothing is computed until we ask for it.

# %%
master = mf.combine_stack(stack).dataset.compute()
master

# %% [markdown]
# It agrees with the three lines of numpy above; only values on which the noise floor decides may
# differ (these are whole numbers: where a MAD comes out as 0, no value is 5 sigma away).

# %%
raw = stack.values.astype(float)
center, spread = np.median(raw, axis=0), mad_sigma(raw)
kept = np.abs(raw - center) <= 5 * np.maximum(spread, 1.4826 / 2)
by_hand = np.where(kept, raw, 0).sum(axis=0) / kept.sum(axis=0)
np.testing.assert_array_equal(master["count"], kept.sum(axis=0))
np.testing.assert_allclose(master["data"], by_hand, rtol=1e-6)

single = float(np.std(raw[0] - raw[1])) / np.sqrt(2)
noise = float(np.median(master["uncert"]))
print(f"noise of one frame {single:.2f} adu, of the master {noise:.2f} adu")
print(
    f"their ratio {single / noise:.2f}, the square root of {len(stack)} is {len(stack) ** 0.5:.2f}"
)
assert abs(single / noise / len(stack) ** 0.5 - 1) < 0.2

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
low, high = np.percentile(master["data"], [1, 99])
for axes, image, title in (
    (left, stack[0].values, "one frame"),
    (right, master["data"].values, f"master of {len(stack)}"),
):
    axes.imshow(image[corner], origin="lower", vmin=low, vmax=high, cmap="gray")
    axes.set_title(title)

# %% [markdown]
# ### Another rule
#
# A recipe is a value. Here nothing is rejected, and the results differ only where something was.

# %%
plain = mf.combine_stack(stack, Recipe(rejection=Rejection(rule="none"))).dataset.compute()
rejected = len(stack) - master["count"].values
print(f"{int((rejected > 0).sum())} pixels lost a value, {rejected.mean() / len(stack):.2e} of all")
different = master["data"].values != plain["data"].values
assert not np.any(different & (rejected == 0))
