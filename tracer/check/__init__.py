"""See what a surface or a collection is worth: measures, verdicts, one page with pictures."""

from tracer.check.params import CheckParams
from tracer.check.stage import Report, check

__all__ = ["CheckParams", "Report", "check"]
