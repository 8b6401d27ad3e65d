"""The closed-form census against the one generated from the real modules, and against 240 exact counts."""

import pytest

from planner.catalog.generated import generated_census
from planner.catalog.model_rows import model_catalog
from planner.errors import UnknownArchitectureError
from planner.families import census_of, decoder_of
from planner.inventory import total_params

ROWS = list(model_catalog().rows.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_closed_form_is_the_generated_census_tensor_by_tensor(row) -> None:
    try:
        closed = census_of(decoder_of(row.config))
    except UnknownArchitectureError as error:
        assert "dry run" in error.title
        return
    assert total_params(closed) == row.params
    assert sorted(closed, key=_order) == sorted(generated_census(row.id), key=_order)


def _order(group):
    return group.name, group.shape
