"""TRL's offloading of activations, played on a virtual card by its own context."""

from tests.probe.tiny import allocated, on_card, request

DEEP = {"num_hidden_layers": 12, "hidden_size": 512, "intermediate_size": 1024}


def test_layers_inputs_wait_on_the_host() -> None:
    def peaks(*, offloads: bool) -> dict[str, int]:
        asked = {"max_length": 512, "activation_offloading": offloads}
        return allocated(on_card(request(config=DEEP, stack="trl", training=asked)))

    kept, offloaded = peaks(offloads=False), peaks(offloads=True)
    inputs_bytes = 12 * 2 * (2 * 512) * 512
    # All but the few that are on their way are gone before the backward pass.
    assert kept["backward"] - offloaded["backward"] > inputs_bytes // 2


def test_a_reward_model_which_has_no_head_of_words_is_offloaded_too() -> None:
    run = on_card(request(config=DEEP, stack="trl", training={"objective": "reward", "activation_offloading": True}))
    assert run.outcome == "ok"
