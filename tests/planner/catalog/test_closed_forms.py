"""The families' closed forms, held to the real module trees: same tensors, same shapes, same fate, for every model."""

import pytest

from planner.catalog.generated import generated_census
from planner.catalog.model_rows import model_catalog
from planner.errors import UnknownArchitectureError
from planner.families import census_of, decoder_of
from planner.inventory import Census, total_params

ROWS = model_catalog().rows


def known_rows():
    for row in ROWS.values():
        try:
            decoder_of(row.config)
        except UnknownArchitectureError:
            continue
        yield row.id


def tensors(census: Census) -> set[tuple[object, ...]]:
    """Groups without their order; what a reader of the census acts on."""
    return {
        (group.name, group.role, group.shape, group.count, group.quantizable, group.keeps_float32) for group in census
    }


@pytest.mark.parametrize("model_id", list(known_rows()))
def test_the_closed_form_lists_the_very_tensors_of_the_model(model_id):
    closed, generated = census_of(decoder_of(ROWS[model_id].config)), generated_census(model_id)
    assert tensors(closed) ^ tensors(generated) == set()
    assert total_params(closed) == ROWS[model_id].params
