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
# # Threads, processes, Slurm
#
# masterframe does its work as tasks of [Dask](https://www.dask.org). Where they run is one setting,
# and changes no bit of a result: threads of one process (the default), processes of one machine, a
# scheduler that runs somewhere, or jobs of a batch system.

# %%
# %matplotlib inline
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from astropy.io import fits
from distributed import Client, LocalCluster, get_task_stream

import masterframe as mf
from masterframe.simulate import Camera, NightSpec, simulate_night

plt.rcParams["figure.dpi"] = 72
folder = Path(tempfile.mkdtemp(prefix="masterframe-"))
spec = NightSpec(
    Camera(shape=(600, 640)), bias=12, darks={60.0: 8}, flats={"V": 8}, science={"V": 2}, seed=2
)
night = simulate_night(folder, spec).night
print(f"{len(list(night.iterdir()))} frames")

# %% [markdown]
# ## Threads
#
# With nothing said, a run takes as many threads as there are processors.

# %%
threads = folder / "by-threads"
report = mf.run_night(night, threads)
for outcome in report.outcomes:
    print(f"{outcome.name:30} {outcome.state}")
assert report.exit_code == 0


def same_pixels(out):
    """Return how many products of a folder are those of the threads, bit for bit."""
    products = sorted(path.relative_to(threads) for path in threads.rglob("*.fits"))
    for product in products:
        with fits.open(threads / product) as expected, fits.open(out / product) as found:
            for one, other in zip(expected, found, strict=True):
                if one.is_image:
                    assert one.data.tobytes() == other.data.tobytes(), (product, one.name)
    return len(products)


# %% [markdown]
# ## Processes, with the dashboard
#
# In a terminal: `masterframe run night -o reduced --scheduler processes --dashboard`. In Python no
# function of masterframe starts a cluster: it uses the client that is there. So whoever starts the
# client decides where the work is done.

# %%
cluster = LocalCluster(
    n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
)
client = Client(cluster)
address = client.dashboard_link
assert address.startswith("http://127.0.0.1:")  # nobody else can reach it
print("open", address.replace(address.split(":")[2].split("/")[0], "PORT"))

processes = folder / "by-processes"
with get_task_stream(client) as stream:
    report = mf.run_night(night, processes)
assert report.exit_code == 0
print(f"{same_pixels(processes)} products, and every bit is that of the threads")

# %% [markdown]
# The dashboard shows live what each worker does. This is its task stream, drawn again: a row a
# worker, a bar a task. The labels say what a task does: frames are measured, the step to which
# their values are rounded is found, bands are combined, science frames are calibrated.

# %%
LABELS = ("mf-measure", "mf-step", "mf-combine", "mf-calibrate")
tasks = []
for task in stream.data:
    key = str(task["key"]).lstrip("('")
    label = next((name for name in LABELS if key.startswith(name)), "other")
    spans = [span for span in task["startstops"] if span["action"] == "compute"]
    tasks += [(task["worker"], label, span["start"], span["stop"]) for span in spans]
workers = sorted({worker for worker, *_ in tasks})
began = min(start for *_, start, _ in tasks)
colours = dict(zip([*LABELS, "other"], plt.get_cmap("tab10").colors, strict=False))
figure, axes = plt.subplots(figsize=(11, 2.8), layout="constrained")
for name in dict.fromkeys(label for _, label, *_ in tasks):
    for row, worker in enumerate(workers):
        bars = [(a - began, b - a) for who, what, a, b in tasks if (who, what) == (worker, name)]
        axes.broken_barh(bars, (row - 0.4, 0.8), color=colours[name], label=name if not row else "")
axes.set(xlabel="seconds", yticks=range(len(workers)), yticklabels=["worker 1", "worker 2"])
axes.legend(frameon=False, ncols=6, loc="lower left", bbox_to_anchor=(0, 1))
counts = {name: sum(label == name for _, label, *_ in tasks) for name in colours}
print({name: count for name, count in counts.items() if count})
assert all(counts[name] > 0 for name in LABELS)
assert counts["other"] == 0

# %%
client.close()
cluster.close()

# %% [markdown]
# ## A scheduler that runs already
#
# `dask scheduler` and `dask worker` on machines of yours, and then
# `masterframe run night -o reduced --scheduler tcp://HOST:8786`. Ports that others can reach need
# TLS (`tls://`), or `--insecure` in a network where all are trusted.
#
# ## Slurm
#
# A cluster is described by a YAML file. The run submits the jobs, replaces those that are lost, and
# leaves none behind. `configs/slurm.yaml` is one with comments on every line; this is a small one.
# Connections between jobs are encrypted with certificates made for this run alone (`tls: made`).

# %%
queue, slurm = "main", False
if shutil.which("sinfo"):
    asked = subprocess.run(
        ["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, check=False
    )
    slurm = asked.returncode == 0 and bool(asked.stdout)
    queue = asked.stdout.split()[0] if slurm else queue
description = f"""\
cluster: SLURMCluster   # of dask-jobqueue
jobs: 2                 # kept running
wait: 120               # seconds that the first may wait in the queue
tls: made
options:
  cores: 1
  memory: 1GB
  walltime: "00:10:00"
  queue: {queue}
"""
(folder / "slurm.yaml").write_text(description)
print(description)

# %%
command = [sys.executable, "-m", "masterframe", "run", night, "-o", folder / "by-slurm"]
command += ["--scheduler", folder / "slurm.yaml"]
if slurm:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    print(done.stdout.splitlines()[-1].partition(" in ")[0])
    print(f"{same_pixels(folder / 'by-slurm')} products, and every bit is that of the threads")
    left = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True)
    print("jobs left:", left.stdout.count("\n"))
else:
    print("no Slurm here; where there is one:")
    print("masterframe run night -o by-slurm --scheduler slurm.yaml")

# %% [markdown]
# One allocation can also be its own cluster, for sites where jobs must not submit jobs:
# `sbatch configs/slurm_batch.sh NIGHT OUT` turns one of its tasks into the scheduler, one into the
# run, and the others into workers.

# %%
shutil.rmtree(folder)
