"""Where no kernel of the card runs (CPU, meta, fake and functional tensors, DTensor), torch is as it was."""

from typing import Any

import pytest

from tests.probe.values.programs import with_values, without_values

# They read numbers, which meta and fake tensors do not have.
READ = {"unique", "runs", "positions", "selected", "counted", "repeated", "cast", "item"}
READ |= {"moved torch.float32", "moved torch.bfloat16"}


@pytest.mark.parametrize("kind", ["cpu", "meta", "fake-cuda", "fake-cpu", "functional-cpu"])
def test_an_operator_answers_as_it_does_without_the_rules(kind: str) -> None:
    program = f"from tests.probe.values.elsewhere import answers\nanswer.update(answers({kind!r}))"
    seen: dict[str, Any] = with_values(program)
    assert seen == without_values(program)
    refused = {name for name, told in seen.items() if told.endswith(("Error", "Exception"))}
    assert refused <= READ
