"""Relative winding numbers of a surface, and the places where it jumps between wraps."""

from tracer.winding.solve import Discontinuity, Winding, solve_winding

__all__ = ["Discontinuity", "Winding", "solve_winding"]
