"""The report of an output folder: one page to see whether its masters are good, and why.

`write_report` reads the written masters and the record of the last run, never raw frames, and
writes ``report/index.html``, which needs nothing beside it, and ``report/report.json``.
"""

from masterframe.report.page import PAGE, write_report

__all__ = ["PAGE", "write_report"]
