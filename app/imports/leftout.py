"""Keys of trainers' files that are no part of a plan, and why: `HARMLESS` move no memory, `UNMODELLED` do.

Names from the trainers' own argument classes and documented examples: Axolotl src/axolotl/utils/schemas and its
plugins' args.py; LLaMA-Factory src/llamafactory/hparams; transformers 5.23 TrainingArguments, TRL 1.16 SFTConfig,
ModelConfig, ScriptArguments, and the recipes of the alignment handbook.
"""

from app.imports.effects import (
    COMPILED,
    EVALUATION,
    FP8,
    HALVES,
    LAYERS,
    LESS,
    NO_FORMULA,
    OFFLOADED,
    ONE_CARD,
    PARAMETERS,
    PARTIAL,
    PREFERENCES,
    PROJECTED,
    REFERENCE,
    UNSLOTH,
    VOCABULARY,
    WHOLE,
    Effect,
    Effects,
    each,
)
from app.imports.rules import words

AXOLOTL_HARMLESS = words(
    """
model_type tokenizer_type tokenizer_config trust_remote_code hub_model_id datasets dataset_prepared_path
val_set_size output_dir wandb_project wandb_entity wandb_watch wandb_name wandb_run_id wandb_log_model
wandb_mode num_epochs max_steps lr_scheduler lr_scheduler_kwargs learning_rate embedding_lr train_on_inputs
group_by_length tf32 early_stopping_patience resume_from_checkpoint auto_resume_from_checkpoints local_rank
logging_steps warmup_steps warmup_ratio evals_per_epoch saves_per_epoch eval_steps save_steps save_total_limit
debug weight_decay special_tokens chat_template chat_template_jinja default_system_message seed strict
save_first_step save_safetensors shuffle_merged_datasets adam_beta1 adam_beta2 adam_epsilon
cosine_min_lr_ratio is_llama_derived_model is_mistral_derived_model is_falcon_derived_model
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
lora_on_cpu tokenizer_save_jinja_files peft_init_lora_weights telemetry
message_field_role streaming report_to use_otel_metrics otel_metrics_host otel_metrics_port use_ray
ray_num_workers resources_per_worker field_thinking template_thinking_key experimental_skip_move_to_device
load_best_model_at_end metric_for_best_model greater_is_better pretraining_dataset
comet_api_key comet_experiment_config comet_experiment_key comet_mode comet_online comet_project_name
comet_workspace cosine_constant_lr_ratio dataloader_drop_last dataset_shard_idx dataset_shard_num ddp
ddp_broadcast_buffers ddp_bucket_cap_mb evaluation_strategy gc_collect_steps gradio_title gradio_share
gradio_server_name gradio_server_port gradio_max_new_tokens gradio_temperature hf_use_auth_token hub_revision
hf_mlflow_log_artifacts include_tkps lr_groups lr_quadratic_warmup mean_resizing_embeddings lora_alpha_pattern
max_packed_sequence_len preprocess_shards pretraining_sample_concatenation pretrain_multipack_attn
pretrain_multipack_buffer_size streaming_multipack_buffer_size processor_type processor_kwargs
profiler_steps_start ray_run_name sample_packing_mp_start_method scaling_softmax_bias scaling_softmax_factor
swanlab_project swanlab_workspace swanlab_mode swanlab_description swanlab_experiment_name use_swanlab
use_trackio trackio_project_name trackio_run_name trackio_space_id tokenizer_legacy tokenizer_use_fast
torch_empty_cache_steps total_num_tokens total_supervised_tokens train_on_eot embedding_lr_scale curriculum_sampling
bench_dataset min_sample_len system_prompt
"""
)
AXOLOTL_UNMODELLED: Effects = {
    **each(
        """
deepspeed fsdp fsdp_config fsdp_version tensor_parallel_size context_parallel_size sequence_parallel_degree
dp_shard_size dp_replicate_size gpu_memory_limit max_memory expert_parallel_size expert_parallel_backend
heads_k_stride ring_attn_func qlora_sharded_model_loading device_map
""",
        ONE_CARD,
    ),
    **each(
        """
reward_model process_reward_model rl_beta dpo_beta dpo_loss_type dpo_loss_weights dpo_label_smoothing dpo_norm_loss
dpo_padding_free dpo_use_liger_kernel dpo_use_logits_to_keep dpo_use_weighting dpo_generate_during_eval orpo_alpha
rpo_alpha simpo_gamma cpo_alpha kto_desirable_weight kto_undesirable_weight precompute_ref_log_probs max_prompt_len
kd_trainer kd_ce_alpha kd_alpha kd_temperature kd_online_server kd_online_topk diffusion
""",
        PREFERENCES,
    ),
    **each("lisa_n_layers lisa_step_interval lisa_layers_attribute spectrum_top_fraction spectrum_model_name", PARTIAL),
    **each("optim_target_modules qgalore_rank qgalore_scale qgalore_proj_bits qgalore_update_proj_gap", PROJECTED),
    "lora_rank_pattern": Effect("other ranks for some modules; planned with one"),
    **each("fp32_norms fp32_norm_classes", Effect("norms in float32; planned in the model's dtype")),
    **each(
        """
unsloth_cross_entropy_loss unsloth_lora_mlp unsloth_lora_qkv unsloth_lora_o unsloth_rms_norm
""",
        UNSLOTH,
    ),
    **each(
        """
lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel liger_layer_norm liger_cross_entropy
flash_attn_cross_entropy flash_attn_fuse_qkv flash_attn_fuse_mlp flash_attn_rms_norm chunked_cross_entropy
use_kernels tiled_mlp tiled_mlp_num_shards tiled_mlp_use_original_mlp use_scattermoe use_sonicmoe liger_swiglu
liger_rms_norm_gated selective_checkpointing recompute_layer_types
""",
        LESS,
    ),
    "s2_attention": Effect("shifted attention; planned with plain attention"),
    "lora_modules_to_save": WHOLE,
    "peft_trainable_token_indices": Effect("trains rows of the embedding beside the adapters; not in the plan"),
    "lora_target_parameters": PARAMETERS,
    "embeddings_skip_upcast": Effect("skips a passing float32 copy of the embeddings while loading", saves=True),
    **each("relora relora_steps", Effect("merges and restarts adapters; not in the plan")),
    "peft_layer_replication": Effect("repeats layers; not in the plan"),
    "eval_sample_packing": Effect("packs what is evaluated, too; evaluation is not in the plan"),
    **each("torch_compile torch_compile_backend torch_compile_mode flex_attn_compile_kwargs", COMPILED),
    "qat": Effect("quantization-aware training; not in the plan"),
    "fp8": FP8,
    "peft": Effect("its own quantization backend or LoftQ; planned as load_in_4bit and load_in_8bit say"),
    "gptq": Effect("trains over GPTQ weights; planned in 16 bit", "in 16 bit", saves=True),
    "model_quantization_config": Effect("loads the weights its own way; planned as the config says", saves=True),
    "model_quantization_config_kwargs": Effect("loads the weights its own way; planned as the config says", saves=True),
    "peft_layers_to_transform": LAYERS,
    "auto_find_batch_size": HALVES,
    "unfrozen_parameters": PARTIAL,
    **each("activation_offloading layer_offloading offload", OFFLOADED),
    **each("resize_token_embeddings_to_32x added_tokens_overrides", VOCABULARY),
    "moe_kernels": NO_FORMULA,
    "llama4_linearized_experts": Effect("experts as single layers; planned as the model has them", saves=True),
    "quantize_moe_experts": Effect("quantizes stacked experts, too; planned in 16 bit", "in 16 bit", saves=True),
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
create_new_adapter moe_aux_loss_coef disable_shuffling neftune_noise_alpha
remove_unused_columns group_by_length logging_strategy logging_first_step log_level data_shared_file_system
pad_to_multiple_of use_swanlab swanlab_project swanlab_mode swanlab_run_name swanlab_workspace swanlab_api_key
compute_accuracy flash_attn_2 infer_backend infer_dtype quantization_device_map use_kv_cache
print_param_status export_dir early_stopping_steps train_from_scratch image_max_pixels image_min_pixels
video_max_pixels video_min_pixels video_fps video_maxlen freeze_language_model freeze_multi_modal_projector
freeze_vision_tower rope_scaling ray_run_name ray_num_workers ray_storage_path placement_strategy
resources_per_worker predict_with_generate max_new_tokens temperature top_k top_p do_sample repetition_penalty
length_penalty num_beams skip_special_tokens vllm_maxlen vllm_gpu_util vllm_enforce_eager vllm_max_lora_rank
vllm_config sglang_maxlen sglang_mem_fraction sglang_tp_size sglang_config sglang_lora_backend export_size
export_device export_quantization_bit export_quantization_dataset export_quantization_maxlen
export_quantization_nsamples export_legacy_format export_hub_model_id om_hub_token swanlab_lark_secret
swanlab_lark_webhook_url swanlab_logdir ray_init_kwargs enable_torch_profiler profiler_output_dir task task_dir lang
n_shot save_dir preserve_thinking download_mode include_effective_tokens_per_second pissa_iter pissa_convert
audio_sampling_rate crop_to_patches image_do_pan_and_scan use_audio_in_video
"""
)
LLAMA_FACTORY_UNMODELLED: Effects = {
    **each(
        """
deepspeed fsdp fsdp_config sequence_parallel_size context_parallel_size use_mca tensor_model_parallel_size
pipeline_model_parallel_size expert_model_parallel_size use_kt use_megatron_bridge use_hyper_parallel device_map
offload_folder
""",
        ONE_CARD,
    ),
    **each(
        """
pref_beta pref_loss pref_ftx pref_bco_weight simpo_gamma ld_alpha dpo_label_smoothing kto_chosen_weight
kto_rejected_weight ppo_score_norm ppo_target ppo_buffer_size ppo_epochs ppo_whiten_rewards ref_model_adapters
reward_model_adapters
""",
        PREFERENCES,
    ),
    **each("ref_model reward_model", REFERENCE),
    **each("reward_model_type ref_model_quantization_bit reward_model_quantization_bit", PREFERENCES),
    **each(
        """
use_galore galore_layerwise galore_target galore_rank galore_update_interval galore_scale use_apollo
apollo_layerwise apollo_target apollo_rank apollo_update_interval apollo_scale apollo_proj apollo_proj_type
apollo_scale_type apollo_scale_front galore_proj_type optim_target_modules
""",
        PROJECTED,
    ),
    **each("badam_mode badam_switch_mode badam_switch_interval badam_verbose badam_start_block use_badam", PARTIAL),
    **each("oft_rank oft_block_size oft_target module_dropout", Effect("OFT is not planned")),
    "use_unsloth": UNSLOTH,
    "use_unsloth_gc": OFFLOADED,
    **each(
        "use_adam_mini use_muon", Effect("an optimizer without a formula here", "with the plain optimizer", saves=True)
    ),
    "shift_attn": Effect("S²-attention; planned with plain attention"),
    "mixture_of_depths": LAYERS,
    "use_llama_pro": LAYERS,
    "additional_target": WHOLE,
    "upcast_lmhead_output": Effect("float32 logits twice; planned without"),
    "upcast_layernorm": Effect("float32 norms widen the residual; planned without"),
    **each("freeze_trainable_layers freeze_trainable_modules freeze_extra_modules", PARTIAL),
    **each("resize_vocab add_tokens add_special_tokens new_special_tokens_config", VOCABULARY),
    **each("fp8 fp8_backend", FP8),
    "pissa_init": Effect("decomposes the weights while loading; not in the plan"),
    **each("torch_compile torch_compile_backend torch_compile_mode", COMPILED),
    "auto_find_batch_size": HALVES,
    "use_v1_kernels": LESS,
    **each(
        "use_dft_loss use_eaft_loss use_asft_loss",
        Effect("weighs the loss by float32 probabilities; planned with the plain loss"),
    ),
    "neat_packing_attention": NO_FORMULA,
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
neftune_noise_alpha project full_determinism torch_empty_cache_steps
label_names length_column_name ignore_data_skip save_on_each_node average_tokens_across_devices
preprocessing_num_workers skip_memory_metrics train_sampling_strategy trackio_space_id tags callbacks
benchmarks system_prompt wandb_entity wandb_project wandb_run_group local_rank use_cache accelerator_config
bnb_4bit_quant_storage auto_insert_empty_system_msg router_aux_loss_coef lora_bias bias task_type
dataloader_in_order dataloader_multiprocessing_context ddp_broadcast_buffers ddp_bucket_cap_mb ddp_static_graph
debug enable_jit_checkpoint log_on_each_node restore_callback_states_from_checkpoint trackio_bucket_id
trackio_static_space_id prediction_loss_only include_for_metrics disable_dropout chat_template_kwargs
"""
)
_TRAINING_UNMODELLED: Effects = {
    **each(
        """
eval_accumulation_steps batch_eval_metrics eval_do_concat_batches eval_use_gather_object bf16_full_eval
fp16_full_eval
""",
        EVALUATION,
    ),
    "liger_kernel_config": Effect("switches single Liger kernels; planned with its loss"),
    **each("torch_compile torch_compile_mode torch_compile_backend", COMPILED),
    "parallelism_config": ONE_CARD,
    "auto_find_batch_size": HALVES,
    "optim_target_modules": PROJECTED,
    "label_smoothing_factor": Effect("takes a second log-softmax of all logits; not in the plan"),
    "use_cpu": Effect("trains on the processor; planned on the card", "as on the card", saves=True),
    "optim_args": Effect("may change what the optimizer keeps; planned with its defaults", saves=True),
}
TRL_UNMODELLED: Effects = {
    **each("deepspeed fsdp fsdp_config", ONE_CARD),
    **each(
        """
beta max_prompt_length max_completion_length num_generations reference_free precompute_ref_log_probs sync_ref_model
desirable_weight undesirable_weight max_pixels num_generations_eval generation_batch_size steps_per_generation
response_length missing_eos_penalty cpo_alpha simpo_gamma rpo_alpha vllm_tensor_parallel_size
cache_implementation cast_lm_head_to_fp32 center_rewards_coefficient delta discopop_tau ds3_gather_for_generation
entropy_coef entropy_coef_delta entropy_coef_max entropy_coef_min entropy_target epsilon epsilon_high
f_alpha_divergence_coef f_divergence_type generation_kwargs importance_sampling_level label_smoothing ld_alpha
log_completions log_completions_hub_repo loss_weights mask_truncated_completions max_tool_calling_iterations min_p
multi_objective_aggregation normalize_advantages num_completions_to_print num_iterations off_policy_mask_threshold
precompute_ref_batch_size ref_model_mixup_alpha ref_model_sync_steps repetition_penalty reward_clip_range reward_funcs
reward_weights sapo_temperature_neg sapo_temperature_pos scale_rewards temperature top_entropy_quantile top_k top_p
transformers_continuous_batching_config use_adaptive_entropy use_bias_correction_kl use_transformers_paged
use_transformers_continuous_batching use_weighting vespo_k_neg vespo_k_pos vespo_lambda_neg vespo_lambda_pos
vllm_group_port vllm_importance_sampling_cap vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min
vllm_importance_sampling_correction vllm_importance_sampling_mode vllm_max_model_length vllm_model_impl
vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout vllm_structured_outputs_regex
""",
        PREFERENCES,
    ),
    **each("ref_model_name_or_path ref_model reward_model_path reward_model_name_or_path sft_model_path", REFERENCE),
    "activation_offloading": OFFLOADED,
    **each("lora_modules_to_save modules_to_save", WHOLE),
    "lora_target_parameters": PARAMETERS,
    **_TRAINING_UNMODELLED,
}

# LLaMA-Factory's training arguments are TrainingArguments, too.
LLAMA_FACTORY_HARMLESS |= TRL_HARMLESS
LLAMA_FACTORY_UNMODELLED = {**_TRAINING_UNMODELLED, **LLAMA_FACTORY_UNMODELLED}
