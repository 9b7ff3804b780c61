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
# # Moving over from ccdproc, IRAF and Siril
#
# The same frames through each of the three programs and through masterframe, and the same numbers
# out of both. IRAF and Siril run where they are installed; ccdproc is a package of Python. The page
# *Moving over* of the documentation lists all parameters, and *Differences* what differs on
# purpose.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits

plt.rcParams |= {"figure.dpi": 72, "legend.frameon": False}
folder = Path(tempfile.mkdtemp(prefix="masterframe-"))
os.chdir(folder)
N, SHAPE = 20, (120, 160)
rng = np.random.default_rng(6)
frames = rng.normal(1000, 10, (N, *SHAPE))
hit = rng.random(frames.shape) < 0.005
frames[hit] += rng.exponential(800, hit.sum())
frames = frames.round().astype(np.uint16)
names = [f"in_{number:05}.fits" for number in range(1, N + 1)]
for name, frame in zip(names, frames, strict=True):
    fits.writeto(name, frame)
Path("frames.lis").write_text("\n".join(names) + "\n")


def masterframe(*words):
    """Run a command of masterframe, and return what it prints as JSON."""
    command = [sys.executable, "-m", "masterframe", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def combined(output, *words):
    """Combine the frames with some options, and return the result and the values kept."""
    masterframe("combine", "@frames.lis", "-o", output, *words)
    with fits.open(output) as master:
        return master[0].data.astype(float), master["COUNT"].data.astype(int)


compared = {}


def compare(what, theirs, ours):
    """Print and keep the largest difference of two results."""
    compared[what] = np.asarray(theirs, float) - ours
    worst = np.abs(compared[what]).max()
    print(f"{what}: largest difference {worst:.1e} of {ours.mean():.0f} adu")
    return worst


plain = frames.mean(axis=0)
print(f"{hit.sum()} of {hit.size} values were hit")

# %% [markdown]
# ## ccdproc
#
# A script moves over by one line: `from masterframe.compat.ccdproc import combine` in the place of
# `from ccdproc import combine`.

# %%
from masterframe.compat.ccdproc import combine

options = {
    "unit": "adu",
    "sigma_clip": True,
    "sigma_clip_low_thresh": 5,
    "sigma_clip_high_thresh": 5,
    "sigma_clip_func": "median",
    "sigma_clip_dev_func": "mad_std",
}
ours = combine(names, **options)
try:
    import ccdproc
except ImportError:
    print("ccdproc is not installed")
else:
    theirs = ccdproc.combine(names, **options)
    assert compare("ccdproc.combine", theirs.data, ours.data) < 1e-9
    ratio = np.median(theirs.uncertainty.array / ours.uncertainty.array)
    print(f"uncertainty, theirs over ours: {ratio:.4f}")
    assert abs(ratio - (19 / 20) ** 0.5) < 1e-4

# %% [markdown]
# The values are equal. The uncertainty is not: ccdproc divides the variance by N where N - 1 is
# right, so that its errors are too small, here by $\sqrt{19/20} = 0.975$.
#
# On the command line the same clip is the default rule, without the noise floor. With frames of 10
# adu noise the floor changes nothing. It matters where the noise is near one step of the data: then
# the MAD of whole numbers is often 0, and without a floor every value but the median is rejected.

# %%
data, count = combined("like_ccdproc.fits", "--noise-floor", "0")
assert compare("masterframe combine --noise-floor 0", ours.data, data) < 2e-4  # float32
default, kept = combined("default.fits")
assert np.array_equal(kept, count)
print(f"{(N - kept).sum()} values are rejected, {hit.sum()} were hit")

quiet = rng.normal(1000, 0.4, (N, *SHAPE)).round().astype(np.uint16)
for number, frame in enumerate(quiet):
    fits.writeto(f"quiet_{number:02}.fits", frame)
for floor in ("0", "auto"):
    masterframe("combine", "quiet_*.fits", "-o", f"quiet_{floor}", "--noise-floor", floor)
    lost = 1 - fits.getdata(f"quiet_{floor}", "COUNT").mean() / N
    print(f"noise of 0.4 adu, --noise-floor {floor:4}: {lost:.1%} of good values rejected")
assert lost < 0.001

# %% [markdown]
# ## IRAF
#
# `--reject` takes IRAF's own names, and `--show` prints what they mean in our terms.

# %%
shown = masterframe("combine", "--reject", "sigclip", "--show")
print(shown["set"]["program"])
for name, origin in shown["origins"].items():
    if origin == "set":
        print(f"  --{name} {shown['parameters'][name]}")

# %%
PAIRS = {
    "sigclip": 'reject="sigclip", lsigma=3, hsigma=3, sigscale=0',
    "avsigclip": 'reject="avsigclip", lsigma=3, hsigma=3, sigscale=0',
    "iraf-minmax": 'reject="minmax", nlow=1, nhigh=1',
}
if shutil.which("irafcl"):
    Path("home").mkdir()
    script = ["images", "immatch", "unlearn imcombine"]
    script += [
        f'imcombine ("@frames.lis", "{name}_iraf.fits", outtype="double", {words}, logfile="log")'
        for name, words in PAIRS.items()
    ]
    Path("script.cl").write_text("\n".join([*script, "logout"]) + "\n")
    subprocess.run(
        ["irafcl", "-f", "script.cl"],
        env=os.environ | {"HOME": str(folder / "home")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=True,
    )
    for name in PAIRS:
        more = ("--nlow", "1", "--nhigh", "1") if name == "iraf-minmax" else ()
        data, _ = combined(f"{name}.fits", "--reject", name, "--dtype", "float64", *more)
        assert compare(f"imcombine, {name}", fits.getdata(f"{name}_iraf.fits"), data) < 1e-9
else:
    print("IRAF is not installed")

# %% [markdown]
# ## Siril
#
# Siril's names work as well. It works in float32 fractions of 65535, so that its results have a
# grain of some $10^{-4}$ adu.

# %%
STACKS = {
    "siril-sigma": "rej s 3 3 -nonorm",
    "siril-percentile": "rej p 0.2 0.1 -nonorm",
    "med": "med -nonorm",
}
if shutil.which("siril-cli"):
    start = ["requires 1.0.0", "setext fits", "setcpu 1", "set32bits", f"cd {folder}"]
    script = [f"stack in_ {words} -out={folder}/{name}_siril" for name, words in STACKS.items()]
    Path("script.ssf").write_text("\n".join([*start, *script]) + "\n")
    Path("siril_home").mkdir()
    subprocess.run(
        ["siril-cli", "-s", "script.ssf"],
        env=os.environ | {"HOME": str(folder / "siril_home"), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=True,
    )
    for name, words in STACKS.items():
        ours = ("--combine", "median", "--reject", "none") if name == "med" else ("--reject", name)
        data, _ = combined(f"{name}.fits", *ours)
        theirs = fits.getdata(f"{name}_siril.fits").astype(float) * 65535
        assert compare(f"stack in_ {words}", theirs, data) < 5e-4
else:
    print("Siril is not installed")

# %% [markdown]
# ## All of them
#
# Above, how much the plain mean and the default of masterframe are off the truth of 1000 adu;
# below, how much the results of the other programs are off ours.

# %%
figure, (above, below) = plt.subplots(2, figsize=(10, 6), layout="constrained")
edges = np.linspace(-12, 60, 200)
for name, image in (("plain mean", plain), ("masterframe combine", default)):
    above.hist(image.ravel() - 1000, edges, histtype="step", log=True, label=name)
above.set(xlabel="off the truth (adu)", ylabel="pixels")
above.legend()
for place, difference in enumerate(compared.values()):
    some = np.abs(difference).ravel()[::7].clip(1e-16)
    below.plot(some, np.full(some.size, place), "|")
below.set(xscale="log", xlim=(5e-17, 1e2), xlabel="difference between programs (adu)")
below.set_yticks(range(len(compared)), list(compared))
below.axvline(10 / N**0.5, color="gray", lw=1, ls="--")
_ = below.text(10 / N**0.5, 0, "noise of the result ", fontsize=9, ha="right", va="center")
# %%
os.chdir("/")
shutil.rmtree(folder)
