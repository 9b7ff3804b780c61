"""FITS files: header scan, reading of row bands, and writing of images; knows nothing of Dask."""

from masterframe.fits.memory import ScanMemory
from masterframe.fits.read import (
    check_datasum,
    counter,
    datasum,
    read_header,
    read_rows,
    read_whole_header,
)
from masterframe.fits.scan import (
    NO_PIXELS,
    FileScan,
    HduScan,
    scan_each,
    scan_file,
    scan_files,
    scan_headers,
)
from masterframe.fits.source import content, holds_fits
from masterframe.fits.stacks import StackReader, read_stack

__all__ = [
    "NO_PIXELS",
    "FileScan",
    "HduScan",
    "ScanMemory",
    "StackReader",
    "check_datasum",
    "content",
    "counter",
    "datasum",
    "holds_fits",
    "read_header",
    "read_rows",
    "read_stack",
    "read_whole_header",
    "scan_each",
    "scan_file",
    "scan_files",
    "scan_headers",
]
