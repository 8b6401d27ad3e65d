"""Keys of trainers' files that are no part of a plan, and why: `HARMLESS` move no memory, `UNMODELLED` do.

Names from the trainers' own argument classes and documented examples: Axolotl src/axolotl/utils/schemas and its
plugins' args.py; LLaMA-Factory src/llamafactory/hparams; transformers 5.23 TrainingArguments, TRL 1.16 SFTConfig,
ModelConfig, ScriptArguments, and the recipes of the alignment handbook.
"""

from collections.abc import Mapping

from app.imports.rules import words

_ONE_CARD = "spreads memory over cards or the host; one card is planned"
_UNSLOTH = "no formula for Unsloth's kernels"
_LESS = "keeps less than the model's own code; planned without, which needs more"
_EVALUATION = "evaluation is not in the plan"
_PREFERENCES = "preference and reward training run more than one forward; planned as supervised training"
_WHOLE_MODULES = "trains whole modules beside the adapters; not in the plan"
_PARTIAL = "trains a part of the weights; planned with all of them"
_PARAMETERS = "adapters on bare parameters; not in the plan"
_HALVES = "halves the batch after running out; the batch stated is planned"
_COMPILED = "compiled graphs save other activations; planned without"
_OFFLOADED = "moves checkpoints to the host; planned on the card"
_FP8 = "8-bit floats; not in the plan"
_PROJECTED = "low-rank gradients; not in the plan"

AXOLOTL_HARMLESS = words(
    """
model_type tokenizer_type tokenizer_config trust_remote_code hub_model_id datasets dataset_prepared_path
val_set_size output_dir wandb_project wandb_entity wandb_watch wandb_name wandb_run_id wandb_log_model
wandb_mode num_epochs max_steps lr_scheduler lr_scheduler_kwargs learning_rate embedding_lr train_on_inputs
group_by_length tf32 early_stopping_patience resume_from_checkpoint auto_resume_from_checkpoints local_rank
logging_steps warmup_steps warmup_ratio evals_per_epoch saves_per_epoch eval_steps save_steps save_total_limit
debug weight_decay special_tokens chat_template chat_template_jinja default_system_message seed strict
save_first_step save_safetensors shuffle_merged_datasets adam_beta1 adam_beta2 adam_epsilon
cosine_min_lr_ratio plugins is_llama_derived_model is_mistral_derived_model is_falcon_derived_model
is_qwen_derived_model tokens loss_watchdog_threshold loss_watchdog_patience eval_table_size
eval_max_new_tokens save_strategy eval_strategy eot_tokens field_messages ddp_find_unused_parameters
ddp_timeout tokenizer_use_mistral_common scaling_softmax lora_model_dir lora_fan_in_fan_out loraplus_lr_ratio
loraplus_lr_embedding dataset_processes dataset_keep_in_memory dataset_exact_deduplication
dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor dataset_num_proc dataset_shards_num
sample_packing_eff_est sample_packing_sequentially sample_packing_bin_size sample_packing_group_size
remove_unused_columns skip_prepare_dataset test_datasets base_model_config revision_of_model
base_model_ignore_patterns hub_strategy use_tensorboard use_wandb use_mlflow use_comet mlflow_tracking_uri
mlflow_experiment_name mlflow_run_name neftune_noise_alpha noisy_embedding_alpha roles_to_train train_on_eos
excess_length_strategy low_cpu_mem_usage gc_steps profiler_steps save_only_model include_tokens_per_second
flash_attn_rms_norm device_map lora_on_cpu tokenizer_save_jinja_files peft_init_lora_weights telemetry
message_field_role streaming report_to use_otel_metrics otel_metrics_host otel_metrics_port use_ray
ray_num_workers resources_per_worker
"""
)
AXOLOTL_UNMODELLED: Mapping[str, str] = {
    **dict.fromkeys(
        words(
            """
deepspeed fsdp fsdp_config fsdp_version tensor_parallel_size context_parallel_size sequence_parallel_degree
dp_shard_size dp_replicate_size gpu_memory_limit max_memory
"""
        ),
        _ONE_CARD,
    ),
    **dict.fromkeys(words("rl reward_model process_reward_model trl"), _PREFERENCES),
    **dict.fromkeys(
        words(
            """
unsloth_cross_entropy_loss unsloth_lora_mlp unsloth_lora_qkv unsloth_lora_o unsloth_rms_norm
"""
        ),
        _UNSLOTH,
    ),
    **dict.fromkeys(
        words(
            """
lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel liger_rope liger_rms_norm liger_layer_norm
liger_glu_activation liger_cross_entropy flash_attn_cross_entropy flash_attn_fuse_qkv flash_attn_fuse_mlp
chunked_cross_entropy
"""
        ),
        _LESS,
    ),
    "cut_cross_entropy": "never builds the logits; set the loss to Liger for a close figure",
    "xformers_attention": "no formula for xformers; planned with the model's default attention",
    "flex_attention": "no formula for flex attention; planned with the model's default attention",
    "s2_attention": "shifted attention; planned with plain attention",
    "lora_modules_to_save": _WHOLE_MODULES,
    "peft_trainable_token_indices": _WHOLE_MODULES,
    "lora_target_parameters": _PARAMETERS,
    "embeddings_skip_upcast": "skips a passing float32 copy of the embeddings while loading",
    "relora": "merges and restarts adapters; not in the plan",
    "relora_steps": "merges and restarts adapters; not in the plan",
    "peft_layer_replication": "repeats layers; not in the plan",
    "eval_batch_size": _EVALUATION,
    "eval_sample_packing": _EVALUATION,
    "torch_compile": _COMPILED,
    "qat": "quantization-aware training; not in the plan",
    "fp8": _FP8,
    "peft": "its own quantization backend or LoftQ; planned as load_in_4bit and load_in_8bit say",
    "gptq": "trains over GPTQ weights; not in the plan",
    "peft_layers_to_transform": "adapts some layers only; planned with all of them",
    "auto_find_batch_size": _HALVES,
    "unfrozen_parameters": _PARTIAL,
    "activation_offloading": _OFFLOADED,
    "layer_offloading": _OFFLOADED,
    "resize_token_embeddings_to_32x": "a larger vocabulary weighs a little more; not in the plan",
    "moe_kernels": "no formula for these mixture kernels",
    "quantize_moe_experts": "quantizes stacked experts too; planned in 16 bit",
}

LLAMA_FACTORY_HARMLESS = words(
    """
do_train do_eval do_predict template dataset dataset_dir media_dir max_samples overwrite_cache streaming
buffer_size mix_strategy interleave_probs preprocessing_num_workers preprocessing_batch_size
dataloader_num_workers dataloader_pin_memory output_dir logging_steps logging_dir save_steps plot_loss
overwrite_output_dir save_only_model report_to learning_rate num_train_epochs max_steps lr_scheduler_type
lr_scheduler_kwargs warmup_ratio warmup_steps ddp_timeout ddp_find_unused_parameters resume_from_checkpoint
eval_dataset val_size eval_strategy evaluation_strategy eval_steps eval_on_each_dataset trust_remote_code
run_name seed data_seed weight_decay include_num_input_tokens_seen include_num_input_tokens_per_second
hub_model_id hub_strategy hf_hub_token ms_hub_token push_to_hub cache_dir use_fast_tokenizer tokenized_path
adam_beta1 adam_beta2 adam_epsilon loraplus_lr_ratio loraplus_lr_embedding mask_history train_on_prompt
packing neat_packing save_total_limit save_strategy save_safetensors load_best_model_at_end
metric_for_best_model greater_is_better low_cpu_mem_usage enable_thinking reasoning_effort default_system
tool_format ignore_pad_token_for_loss split_special_tokens model_revision adapter_name_or_path adapter_folder
create_new_adapter moe_aux_loss_coef disable_shuffling neftune_noise_alpha optim_target_modules
remove_unused_columns group_by_length logging_strategy logging_first_step log_level data_shared_file_system
pad_to_multiple_of use_swanlab swanlab_project swanlab_mode swanlab_run_name swanlab_workspace swanlab_api_key
compute_accuracy flash_attn_2 infer_backend infer_dtype quantization_device_map use_kv_cache
print_param_status export_dir early_stopping_steps train_from_scratch image_max_pixels image_min_pixels
video_max_pixels video_min_pixels video_fps video_maxlen freeze_language_model freeze_multi_modal_projector
freeze_vision_tower rope_scaling ray_run_name ray_num_workers ray_storage_path placement_strategy
resources_per_worker predict_with_generate max_new_tokens
"""
)
LLAMA_FACTORY_UNMODELLED: Mapping[str, str] = {
    **dict.fromkeys(words("deepspeed fsdp fsdp_config sequence_parallel_size"), _ONE_CARD),
    **dict.fromkeys(
        words(
            """
pref_beta pref_loss pref_ftx ref_model reward_model reward_model_type kto_chosen_weight
"""
        ),
        _PREFERENCES,
    ),
    **dict.fromkeys(
        words(
            """
use_galore galore_layerwise galore_target galore_rank galore_update_interval galore_scale use_apollo
apollo_layerwise apollo_target apollo_rank apollo_update_interval apollo_scale
"""
        ),
        _PROJECTED,
    ),
    **dict.fromkeys(
        words(
            """
badam_mode badam_switch_mode badam_switch_interval badam_verbose use_badam
"""
        ),
        _PARTIAL,
    ),
    **dict.fromkeys(words("oft_rank oft_block_size oft_target module_dropout"), "OFT is not planned"),
    "use_unsloth": _UNSLOTH,
    "use_unsloth_gc": _OFFLOADED,
    "use_adam_mini": "an optimizer without a formula here",
    "use_muon": "an optimizer without a formula here",
    "shift_attn": "S²-attention; planned with plain attention",
    "mixture_of_depths": "skips layers; not in the plan",
    "use_llama_pro": "adds layers; not in the plan",
    "additional_target": _WHOLE_MODULES,
    "per_device_eval_batch_size": _EVALUATION,
    "upcast_lmhead_output": "float32 logits twice; planned without",
    "upcast_layernorm": "float32 norms widen the residual; planned without",
    "freeze_trainable_layers": "freeze tuning is not in the plan",
    "freeze_trainable_modules": "freeze tuning is not in the plan",
    "freeze_extra_modules": "freeze tuning is not in the plan",
    "resize_vocab": "a larger vocabulary weighs more; not in the plan",
    "add_tokens": "a larger vocabulary weighs more; not in the plan",
    "fp8": _FP8,
    "fp8_backend": _FP8,
    "pissa_init": "decomposes the weights while loading; not in the plan",
    "torch_compile": _COMPILED,
    "auto_find_batch_size": _HALVES,
    "use_v1_kernels": _LESS,
    "use_dft_loss": "weighs the loss by float32 probabilities; planned with the plain loss",
    "use_eaft_loss": "weighs the loss by float32 probabilities; planned with the plain loss",
}

TRL_HARMLESS = words(
    """
output_dir learning_rate num_train_epochs max_steps warmup_steps warmup_ratio lr_scheduler_type
lr_scheduler_kwargs logging_steps logging_strategy logging_dir logging_first_step logging_nan_inf_filter
save_steps save_strategy save_total_limit save_only_model save_safetensors eval_steps eval_strategy
evaluation_strategy eval_on_start eval_delay report_to run_name seed data_seed weight_decay adam_beta1
adam_beta2 adam_epsilon push_to_hub hub_model_id hub_model_revision hub_strategy hub_private_repo hub_token
hub_always_push hub_revision dataset_name dataset_config dataset_text_field dataset_num_proc dataset_kwargs
dataset_train_split dataset_test_split dataset_streaming dataset_mixture dataset_mixer dataset_splits
dataset_configs datasets packing packing_strategy eval_packing padding_free pad_to_multiple_of
completion_only_loss assistant_only_loss model_revision trust_remote_code lora_task_type do_train do_eval
do_predict overwrite_output_dir dataloader_num_workers dataloader_pin_memory dataloader_drop_last
dataloader_prefetch_factor dataloader_persistent_workers remove_unused_columns group_by_length tf32
load_best_model_at_end metric_for_best_model greater_is_better disable_tqdm log_level log_level_replica
ddp_timeout ddp_find_unused_parameters ddp_backend resume_from_checkpoint truncation_mode eos_token pad_token
chat_template chat_template_path streaming shuffle_dataset include_num_input_tokens_seen
label_smoothing_factor neftune_noise_alpha project full_determinism torch_empty_cache_steps use_cpu
label_names length_column_name ignore_data_skip save_on_each_node average_tokens_across_devices optim_args
preprocessing_num_workers skip_memory_metrics train_sampling_strategy trackio_space_id tags callbacks
benchmarks system_prompt wandb_entity wandb_project wandb_run_group local_rank use_cache accelerator_config
bnb_4bit_quant_storage auto_insert_empty_system_msg router_aux_loss_coef lora_bias bias task_type
dataloader_in_order dataloader_multiprocessing_context ddp_broadcast_buffers ddp_bucket_cap_mb ddp_static_graph
debug enable_jit_checkpoint log_on_each_node restore_callback_states_from_checkpoint trackio_bucket_id
trackio_static_space_id prediction_loss_only include_for_metrics
"""
)
TRL_UNMODELLED: Mapping[str, str] = {
    **dict.fromkeys(words("deepspeed fsdp fsdp_config parallelism_config"), _ONE_CARD),
    **dict.fromkeys(
        words(
            """
beta max_prompt_length max_completion_length num_generations ref_model_name_or_path use_vllm
"""
        ),
        _PREFERENCES,
    ),
    "per_device_eval_batch_size": _EVALUATION,
    **dict.fromkeys(
        words(
            """
eval_accumulation_steps batch_eval_metrics eval_do_concat_batches eval_use_gather_object bf16_full_eval
fp16_full_eval
"""
        ),
        _EVALUATION,
    ),
    "liger_kernel_config": "switches single Liger kernels; planned with its loss",
    "torch_compile_mode": _COMPILED,
    "torch_compile": _COMPILED,
    "torch_compile_backend": _COMPILED,
    "activation_offloading": _OFFLOADED,
    "lora_modules_to_save": _WHOLE_MODULES,
    "lora_target_parameters": _PARAMETERS,
    "auto_find_batch_size": _HALVES,
    "optim_target_modules": _PROJECTED,
}
