"""Every rule of values on a virtual card, and why. One page: an operator without a line here has noise as its result.

Views (`view`, `expand`, `narrow`, `select` …) share memory and need nothing; an operator that torch composes of others
(`one_hot`, `clone`, `full`, `isfinite`, `stack`, `argsort` …) needs nothing either, its parts have
their rules. Kernels that are not torch's own (Triton, bitsandbytes, flash-attn) leave noise in whole numbers too.
Tensors above `host.LIMIT_BYTES`, and bytes above `host.OPAQUE_LIMIT_BYTES`, stay noise: see there for the reasons.
"""

from . import counted_sizes, float_predicates, made_up_integers, random_integers
from .computed import computed, overwritten
from .kernels import Rule

# Whole numbers in, whole numbers out: the same operator on the host over the same memory. With a float among the
# inputs the result is a float, hence noise. These decide masks, positions, lengths and the numbers of tokens.
COMPUTED = """
    add sub rsub mul floor_divide div remainder fmod neg abs sign sgn square pow clamp clamp_min clamp_max maximum
    minimum fmax fmin gcd lcm bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift
    __lshift__ __rshift__ addcmul floor ceil round trunc positive nan_to_num
    where masked_fill lerp
    sum prod cumsum cumprod amax amin aminmax trace logcumsumexp _cummax_helper _cummin_helper
    cat index index_select take gather scatter scatter_add scatter_reduce index_add index_copy index_fill index_reduce
    put _index_put_impl _unsafe_index masked_select masked_scatter _unsafe_masked_index tril triu flip roll
    repeat_interleave bincount
    arange range linspace eye
    _foreach_add _foreach_sub _foreach_mul _foreach_neg _foreach_abs _foreach_sign _foreach_zero _foreach_copy
    _foreach_maximum _foreach_minimum _foreach_clamp_max _foreach_clamp_min _foreach_pow
"""
# A float is asked as 1: finite, not NaN, not zero, not below nought, equal to its like. Loss scaling, gradient clipping
# with `error_if_nonfinite`, the Trainer's filter of NaN losses and the checks of distributions all take the healthy
# road, and a mask made of floats keeps everything, which is the most that memory can hold.
ASKED = """
    eq ne lt le gt ge logical_and logical_or logical_xor logical_not isnan isinf isposinf isneginf signbit
    any all count_nonzero isin
"""
# Indices of the largest, smallest and middle floats are choices: of experts by a router, of tokens by a decoder. They
# are in range, distinct where a row takes several, and even over the rows; `routing="skewed"` lets every row choose the
# same, so that all tokens that may go to the same experts do, the worst case for a mixture's largest block.
CHOSEN = "topk max min median nanmedian mode kthvalue"
EXTREME = "argmax argmin"

OTHERS: dict[str, str] = {
    "fill": "true, and `zero_` with it, whose kernel calls it",
    "copy_": "moves whole numbers between and within devices; a float cast to a whole number is 1",
    "_local_scalar_dense": "`.item()`: a whole number as it is, a float 1.0, GradScaler's found_inf 0.0",
    "_amp_foreach_non_finite_check_and_unscale_": "finds no infinity, so that the optimizer steps",
    "_amp_update_scale_": "counts steps without an infinity",
    "equal": "computed; floats of one shape are equal, as a tied weight's two names are",
    "sort": "true of whole numbers; a permutation of floats",
    "multinomial": "draws in range, distinct in a row, even over the rows",
    "searchsorted bucketize": "true of whole numbers; of floats places in range",
    "max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d": "0, an element there is",
    "nonzero": "true; its kernel allocates for as many as there are",
    "_unique2": "true of whole numbers; floats are all different",
    "unique_consecutive unique_dim": "the same, without the kernel's temporaries",
    "histc": "true of whole numbers (tokens per expert); of floats a float, hence noise",
    "tril_indices triu_indices": "true",
    "random bernoulli": "in range, seeded by the card's generator",
    "randperm": "a permutation, seeded by the card's generator",
}


def rules(seed: int, *, skewed: bool) -> dict[str, Rule]:
    """The rule of each operator, by its name without namespace and overload; `name_` follows `name`."""
    choice = made_up_integers.Choice(seed, skewed)
    table: dict[str, Rule] = dict.fromkeys(COMPUTED.split(), computed)
    table |= dict.fromkeys(ASKED.split(), float_predicates.asked)
    table |= dict.fromkeys(CHOSEN.split(), made_up_integers.chosen(choice))
    table |= dict.fromkeys(EXTREME.split(), made_up_integers.extreme(choice))
    others = (
        overwritten,
        float_predicates.copied,
        counted_sizes.told_item,
        float_predicates.found_no_infinity,
        float_predicates.growth,
        float_predicates.equal,
        made_up_integers.ordered(choice),
        made_up_integers.sampled(choice),
        made_up_integers.positions(choice),
        made_up_integers.first(choice),
        counted_sizes.nonzero,
        counted_sizes.unique,
        counted_sizes.unique_elsewhere,
        counted_sizes.histogram,
        counted_sizes.triangle,
        random_integers.drawn,
        random_integers.permuted,
    )
    for names, rule in zip(OTHERS, others, strict=True):
        table |= dict.fromkeys(names.split(), rule)
    return table
