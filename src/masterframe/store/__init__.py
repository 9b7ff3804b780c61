"""The one place that computes: runs the bands of a master in order, writes them, and publishes.

At most a bounded number of bands is on its way at any time, and their results are taken in the
order of their rows: memory is bounded, sums over rows do not depend on who was faster, and the disk
sees one contiguous write after the other.
"""

from masterframe.progress import Reporter, Silent
from masterframe.store.copies import unpack
from masterframe.store.frames import write_all_calibrated
from masterframe.store.made import Made
from masterframe.store.master import make_master
from masterframe.store.measure import frame_facts, measure_images, sketch_images
from masterframe.store.resources import Resources, open_resources, use_resources
from masterframe.store.room import Room, plan_bands

__all__ = [
    "Made",
    "Reporter",
    "Resources",
    "Room",
    "Silent",
    "frame_facts",
    "make_master",
    "measure_images",
    "open_resources",
    "plan_bands",
    "sketch_images",
    "unpack",
    "use_resources",
    "write_all_calibrated",
]
