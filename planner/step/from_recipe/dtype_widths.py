"""What the trace calls the dtypes of a run: bytes per element, and the other 16-bit type where a run has both."""

from planner.request.dtypes import Dtype
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.step.engine.widths import OTHER_HALF


def products_dtype(recipe: Recipe) -> Dtype:
    """What products are made in, but those of 4-bit weights."""
    return recipe.autocast or recipe.model_dtype


def width_of(dtype: Dtype, recipe: Recipe) -> int:
    """Bytes per element of `dtype`, marked where it is the other 16-bit type than that of products."""
    return OTHER_HALF if {dtype, products_dtype(recipe)} == {"float16", "bfloat16"} else DTYPE_BYTES[dtype]
