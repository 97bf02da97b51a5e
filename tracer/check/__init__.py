"""See what a surface or a collection is worth: measures, verdicts, one page with pictures."""

from tracer.check.params import CheckParams
from tracer.check.report import Report
from tracer.check.stage import check

__all__ = ["CheckParams", "Report", "check"]
