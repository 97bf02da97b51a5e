"""The whole pipeline from one command: configuration, plan, state, report."""

from tracer.run.config import RunParams, load_config
from tracer.run.plan import Inputs, Step, make_plan
from tracer.run.state import RunState

__all__ = ["Inputs", "RunParams", "RunState", "Step", "load_config", "make_plan"]
