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
# # From raw frames to a first master
#
# A simulated night lies on disk as FITS files. We open its bias frames as one lazy array, look at a
# single pixel through all of them, and combine them: values far from the median are left out, the
# rest is averaged.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import masterframe as mf
from masterframe.model import Recipe, Rejection
from masterframe.simulate import Camera, NightSpec, simulate_night

folder = Path(tempfile.mkdtemp(prefix="masterframe-"))
spec = NightSpec(Camera(shape=(256, 320)), bias=20, darks={}, flats={}, science={}, seed=4)
truth = simulate_night(folder / "example", spec)

# %% [markdown]
# ## A lazy stack
#
# Only headers have been read. The pixels stay on disk, in the type in which they were stored.

# %%
stack = mf.open_stack(str(truth.night / "bias*.fits"))
stack

# %% [markdown]
# One pixel through all frames reads one row of each file, not the files.

# %%
history = stack[:, 100, 200].compute()
print(history.values)

# %% [markdown]
# ## Combine
#
# The default recipe leaves out what is more than five sigma from the median, with sigma from the
# median absolute deviation, and averages the rest. Nothing is computed until we ask for it.

# %%
master = mf.combine_stack(stack).dataset
master

# %%
master = master.compute()
single = float(np.std(stack[0].values.astype(float) - stack[1].values)) / np.sqrt(2)
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
    axes.imshow(image, origin="lower", vmin=low, vmax=high, cmap="gray")
    axes.set_title(title)

# %% [markdown]
# ## Another rule
#
# A recipe is a value. Here nothing is rejected, and the two results differ where something was.

# %%
plain = mf.combine_stack(stack, Recipe(rejection=Rejection(rule="none"))).dataset.compute()
rejected = len(stack) - master["count"].values
print(f"{int((rejected > 0).sum())} pixels lost a value, {rejected.mean() / len(stack):.2e} of all")
different = master["data"].values != plain["data"].values
assert not np.any(different & (rejected == 0))
