from .plan import VERSION, Plan
from .rendering import Rendering, render, write_phantom
from .sampling import COHORTS, make_plans

__all__ = ["COHORTS", "VERSION", "Plan", "Rendering", "make_plans", "render", "write_phantom"]
