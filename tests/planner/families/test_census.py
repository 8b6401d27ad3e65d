"""The closed-form census against the one generated from the real modules, and against 240 exact counts."""

from dataclasses import replace

import pytest

from planner.catalog.generated import generated_census
from planner.catalog.model_rows import ModelRow, model_catalog
from planner.errors import UnknownArchitectureError
from planner.families import census_of, decoder_of
from planner.families.unknown import NOT_KNOWN
from planner.tensors.inventory import TensorGroup, total_params

ROWS = list(model_catalog().rows.values())


DESCRIBED = [row for row in ROWS if row.model_type not in NOT_KNOWN]


@pytest.mark.parametrize("row", DESCRIBED, ids=lambda row: row.id)
def test_closed_form_is_the_generated_census_tensor_by_tensor(row: ModelRow) -> None:
    closed = census_of(decoder_of(row.config))
    assert total_params(closed) == row.params
    # A generated census says how many layers have a tensor, and not which.
    without_layers = [replace(group, layers=()) for group in closed]
    assert sorted(without_layers, key=_order) == sorted(generated_census(row.id), key=_order)


@pytest.mark.parametrize("row", [row for row in ROWS if row.model_type in NOT_KNOWN], ids=lambda row: row.id)
def test_what_is_not_described_is_never_guessed(row: ModelRow) -> None:
    with pytest.raises(UnknownArchitectureError, match="dry run"):
        decoder_of(row.config)


def test_nine_of_ten_catalogue_models_are_described() -> None:
    assert len(DESCRIBED) >= 0.9 * len(ROWS)


def _order(group: TensorGroup) -> tuple[str, tuple[int, ...]]:
    return group.name, group.shape
