"""What stands in a master file besides its pixels: layout, header, and the tables on its inputs."""

from masterframe.masterfile.inputs import inputs_table
from masterframe.masterfile.layout import facts_of, plane_specs
from masterframe.masterfile.measures import quality, quality_table, tests_of
from masterframe.masterfile.sums import check_datasums, datasums_of, named_sums
from masterframe.masterfile.totals import Totals, rejected

__all__ = [
    "Totals",
    "check_datasums",
    "datasums_of",
    "facts_of",
    "inputs_table",
    "named_sums",
    "plane_specs",
    "quality",
    "quality_table",
    "rejected",
    "tests_of",
]
