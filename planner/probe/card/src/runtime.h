// The few types of the CUDA runtime whose layout its callers share. Written from the public API reference; CUDA_MAJOR
// (12 or 13) comes from the build, which asks torch.
#pragma once
#include <cstddef>

enum Status {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  NO_DEVICE = 100,
  NO_KERNEL_IMAGE = 209,
  SYSTEM_CALL_FAILED = 304,  // cudaErrorOperatingSystem: no address space. Never "out of memory": the card is not full.
  ALREADY_REGISTERED = 712,
  NOT_REGISTERED = 713,
  NOT_SUPPORTED = 801,
};

struct Dim3 {
  unsigned x, y, z;
};

// cudaDeviceProp: CUDA 13 dropped what cudaDeviceGetAttribute tells (clock rates, compute mode and the like).
struct DeviceProp {
  char name[256];
  unsigned char uuid[16];
  char luid[8];
  unsigned luid_device_node_mask;
  size_t total_global_mem, shared_mem_per_block;
  int regs_per_block, warp_size;
  size_t mem_pitch;
  int max_threads_per_block, max_threads_dim[3], max_grid_size[3];
#if CUDA_MAJOR < 13
  int clock_rate;
#endif
  size_t total_const_mem;
  int major, minor;
  size_t texture_alignment, texture_pitch_alignment;
#if CUDA_MAJOR < 13
  int device_overlap;
#endif
  int multiprocessor_count;
#if CUDA_MAJOR < 13
  int kernel_exec_timeout_enabled;
#endif
  int integrated, can_map_host_memory;
#if CUDA_MAJOR < 13
  int compute_mode;
#endif
  int max_texture_1d, max_texture_1d_mipmap;
#if CUDA_MAJOR < 13
  int max_texture_1d_linear;
#endif
  int textures_and_surfaces[37];  // maxTexture2D to maxSurfaceCubemapLayered
  size_t surface_alignment;
  int concurrent_kernels, ecc_enabled, pci_bus_id, pci_device_id, pci_domain_id, tcc_driver, async_engine_count;
  int unified_addressing;
#if CUDA_MAJOR < 13
  int memory_clock_rate;
#endif
  int memory_bus_width, l2_cache_size, persisting_l2_cache_max_size, max_threads_per_multiprocessor;
  int stream_priorities_supported, global_l1_cache_supported, local_l1_cache_supported;
  size_t shared_mem_per_multiprocessor;
  int regs_per_multiprocessor, managed_memory, is_multi_gpu_board, multi_gpu_board_group_id;
  int host_native_atomic_supported;
#if CUDA_MAJOR < 13
  int single_to_double_precision_perf_ratio;
#endif
  int pageable_memory_access, concurrent_managed_access, compute_preemption_supported;
  int can_use_host_pointer_for_registered_mem, cooperative_launch;
#if CUDA_MAJOR < 13
  int cooperative_multi_device_launch;
#endif
  size_t shared_mem_per_block_optin;
  int pageable_memory_access_uses_host_page_tables, direct_managed_mem_access_from_host;
  int max_blocks_per_multiprocessor, access_policy_max_window_size;
  size_t reserved_shared_mem_per_block;
  int host_register_supported, sparse_array_supported, host_register_read_only_supported;
  int timeline_semaphore_interop_supported, memory_pools_supported, gpu_direct_rdma_supported;
  unsigned gpu_direct_rdma_flush_writes_options;
  int gpu_direct_rdma_writes_ordering;
  unsigned memory_pool_supported_handle_types;
  int deferred_mapping_array_supported, ipc_event_supported, cluster_launch, unified_function_pointers;
  int reserved[63];  // CUDA 13 named seven of these
};

struct PointerAttributes {
  int type, device;
  void *device_pointer, *host_pointer;
#if CUDA_MAJOR >= 13
  long reserved[8];
#endif
};

struct FuncAttributes {
  size_t shared_bytes, const_bytes, local_bytes;
  int max_threads_per_block, num_regs, ptx_version, binary_version, cache_mode_ca, max_dynamic_shared_bytes;
  int preferred_shared_carveout, cluster_dim_must_be_set, cluster_width, cluster_height, cluster_depth;
  int cluster_scheduling, non_portable_cluster_size_allowed, reserved[16];
};

int status_of(int outcome);  // of a space_* call, as the runtime says it; remembered for cudaGetLastError
int remember(int status);
