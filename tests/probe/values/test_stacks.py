"""What transformers, TRL and the Trainer make of values on a virtual card."""

import pytest

from tests.probe.values.programs import with_values

MASKS = """
    from transformers import LlamaConfig
    from transformers.masking_utils import create_causal_mask
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, num_hidden_layers=1)
    config._attn_implementation = IMPLEMENTATION
    def mask(device, attention_mask, position_ids):
        move = lambda t: None if t is None else t.to(device)
        made = create_causal_mask(config=config, inputs_embeds=torch.zeros(2, 6, 64, device=device),
            attention_mask=move(attention_mask), past_key_values=None, position_ids=move(position_ids))
        if made is not None and made.is_floating_point(): return list(made.shape)
        return None if made is None else made.tolist()
    padded = torch.ones(2, 6, dtype=torch.long); padded[1, :2] = 0
    packed = torch.tensor([[0, 1, 2, 0, 1, 2]]).repeat(2, 1)
    cases = dict(full=(torch.ones(2, 6, dtype=torch.long), None), padded=(padded, None), packed=(None, packed))
    answer["card"] = {name: mask("cuda", *case) for name, case in cases.items()}
    answer["cpu"] = {name: mask("cpu", *case) for name, case in cases.items()}
"""


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flash_attention_2"])
def test_transformers_builds_the_mask_it_would_build(implementation: str) -> None:
    seen = with_values(MASKS.replace("IMPLEMENTATION", repr(implementation)))
    assert seen["card"] == seen["cpu"]
    if implementation == "sdpa":
        assert seen["card"]["full"] is None
        assert seen["card"]["padded"] is not None


def test_packed_lengths_for_flash_attention_are_right() -> None:
    seen = with_values(
        """
        from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids
        positions = torch.tensor([[0, 1, 2, 3, 0, 1, 0, 1, 2]], device="cuda")
        (starts, _), (longest, _) = prepare_fa_kwargs_from_position_ids(positions)
        answer |= dict(starts=starts.tolist(), longest=int(longest))
        """
    )
    assert seen["starts"] == [0, 4, 6, 9]
    assert seen["longest"] == 4


MIXTURE = """
    import transformers
    name, experts = NAME, 8
    make = dict(
        mixtral=lambda: transformers.MixtralForCausalLM(transformers.MixtralConfig(num_local_experts=experts, **small)),
        qwen=lambda: transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(num_experts=experts,
            moe_intermediate_size=64, num_experts_per_tok=2, norm_topk_prob=True, **small)),
        gptoss=lambda: transformers.GptOssForCausalLM(transformers.GptOssConfig(num_local_experts=experts,
            num_experts_per_tok=2, head_dim=16, **small)))
    small = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=4, vocab_size=128, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    counts = []
    topk = torch.topk
    with torch.device("cuda"): model = make[name]().to(torch.bfloat16)
    original = torch.topk
    def counted(*args, **kwargs):
        result = original(*args, **kwargs)
        counts.append(result.indices.flatten().bincount(minlength=experts).tolist())
        return result
    torch.topk = counted
    ids = torch.randint(3, 128, (2, 32), device="cuda")
    for implementation in ("eager", "grouped_mm"):
        model.set_experts_implementation(implementation)
        model(input_ids=ids, labels=ids).loss.backward()
    answer |= dict(counts=counts, grads=sum(p.grad is not None for p in model.parameters()),
        noise=values.left_as_noise())
"""


@pytest.mark.parametrize("name", ["mixtral", "qwen", "gptoss"])
def test_a_router_spreads_tokens_evenly_or_sends_all_the_same_way(name: str) -> None:
    program = MIXTURE.replace("NAME", repr(name))
    even, skewed = with_values(program), with_values(program, routing="skewed")
    assert even["counts"] == [[16] * 8] * 2
    assert [sorted(counts) for counts in skewed["counts"]] == [[0] * 6 + [64] * 2] * 2
    assert even["grads"] > 5
    assert even["noise"] == {}


def test_hidden_states_are_selected_by_labels_as_trl_does() -> None:
    seen = with_values(
        """
        hidden = torch.randn(2, 8, 16, device="cuda", requires_grad=True)
        labels = torch.full((2, 8), -100, device="cuda"); labels[:, 5:] = 7
        kept = hidden[labels != -100]
        kept.sum().backward()
        answer |= dict(shape=list(kept.shape), grad=list(hidden.grad.shape))
        """
    )
    assert seen["shape"] == [6, 16]
    assert seen["grad"] == [2, 8, 16]


def test_loss_scaling_finds_no_infinity_and_the_trainer_steps(tmp_path: object) -> None:
    seen = with_values(
        f"""
        from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
        model = LlamaForCausalLM(LlamaConfig(hidden_size=64, intermediate_size=64, num_attention_heads=4,
            num_hidden_layers=1, vocab_size=128))
        rows = [dict(input_ids=[5] * 8, attention_mask=[1] * 8, labels=[5] * 8)] * 8
        trainer = Trainer(model, TrainingArguments({str(tmp_path)!r}, fp16=True, max_steps=3, logging_steps=1,
            report_to=[], save_strategy="no", disable_tqdm=True), train_dataset=rows)
        trainer.train()
        scaler = torch.amp.GradScaler()
        weight = torch.nn.Parameter(torch.ones(4, device="cuda"))
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        for _ in range(2):
            scaler.scale(weight.sum()).backward(); scaler.step(optimizer); scaler.update(); optimizer.zero_grad()
        answer |= dict(steps=trainer.state.global_step, taken=int(optimizer.state[weight]["step"]),
            growth=scaler._growth_tracker.item(), losses=[e["loss"] for e in trainer.state.log_history if "loss" in e])
        """
    )
    assert seen["steps"] == 3
    assert seen["taken"] == 2
    assert seen["growth"] == 2
    assert len(seen["losses"]) == 3


def test_a_sampling_loop_ends_with_tokens_of_the_vocabulary() -> None:
    seen = with_values(
        """
        from transformers import LlamaConfig, LlamaForCausalLM
        with torch.device("cuda"):
            model = LlamaForCausalLM(LlamaConfig(hidden_size=64, intermediate_size=64, num_attention_heads=4,
                num_hidden_layers=1, vocab_size=128, pad_token_id=0))
        ids = torch.randint(3, 128, (2, 5), device="cuda")
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=50, top_p=0.9,
            max_new_tokens=6)
        answer |= dict(shape=list(out.shape), low=out.min().item(), high=out.max().item())
        """
    )
    assert seen["shape"][0] == 2
    assert 5 < seen["shape"][1] <= 11
    assert seen["low"] >= 0
    assert seen["high"] < 128
