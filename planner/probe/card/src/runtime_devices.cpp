// CUDA runtime: devices, their properties, errors, and the way to the driver.
#include "card.h"
#include "runtime.h"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>

namespace {

thread_local int last = SUCCESS;

struct Named {
  int status;
  const char *name, *text;
};
// The texts are NVIDIA's own: torch builds its messages of them.
const Named NAMES[] = {
    {SUCCESS, "cudaSuccess", "no error"},
    {INVALID_VALUE, "cudaErrorInvalidValue", "invalid argument"},
    {OUT_OF_MEMORY, "cudaErrorMemoryAllocation", "out of memory"},
    {NO_DEVICE, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {NO_KERNEL_IMAGE, "cudaErrorNoKernelImageForDevice", "no kernel image is available for execution on the device"},
    {SYSTEM_CALL_FAILED, "cudaErrorOperatingSystem", "OS call failed or operation not supported on this OS"},
    {ALREADY_REGISTERED, "cudaErrorHostMemoryAlreadyRegistered", "part or all of the requested memory range is already mapped"},
    {NOT_REGISTERED, "cudaErrorHostMemoryNotRegistered", "pointer does not correspond to a registered memory region"},
    {NOT_SUPPORTED, "cudaErrorNotSupported", "operation not supported"},
};

const Named* named(int status) {
  for (const auto& entry : NAMES)
    if (entry.status == status) return &entry;
  return nullptr;
}

// cudaDeviceAttr, by number: CUDA runtime API, "enum cudaDeviceAttr". The driver's attributes share the numbers.
int attribute(const Card& card, int number, int device) {
  switch (number) {
    case 1: case 2: case 3: return 1024;              // threads per block, block x and y
    case 4: return 64;                                // block z
    case 5: return 2147483647;                        // grid x
    case 6: case 7: return 65535;                     // grid y and z
    case 8: return 49152;                             // shared memory per block without asking for more
    case 9: return 65536;                             // constant memory
    case 10: return 32;                               // warp
    case 12: case 82: return 65536;                   // registers per block and per multiprocessor
    case 14: return 512;                              // texture alignment
    case 16: return card.multiprocessors;
    case 19: case 31: case 40: case 41: return 1;     // maps host memory, concurrent kernels, engines, unified addresses
    case 33: return card_index_on_machine(device) + 1;  // PCI bus
    case 39: return card.threads_per_multiprocessor;
    case 75: return card.major;
    case 76: return card.minor;
    case 78: case 83: case 89: case 90: case 95: return 1;  // stream priorities, managed memory, its concurrency, cooperation
    case 81: return card.shared_bytes_per_multiprocessor;
    case 97: return card.shared_bytes_per_block_optin;
    case 99: case 102: return 1;                      // host memory may be registered; virtual memory management
    case 103: return 1;                               // handles as file descriptors
    case 106: return card.blocks_per_multiprocessor;
    case 111: return card.major >= 8 ? 1024 : 0;      // shared memory that the system keeps per block
    case 115: return 1;                               // memory pools
    case 120: return card.major >= 9;                 // thread block clusters
    default: return 0;                                // everything else is absent: multicast, fabric, green contexts
  }
}

using Unknown = int (*)();
constexpr int UNKNOWN_SLOTS = 64;
char unknown_names[UNKNOWN_SLOTS][96];

template <int Slot>
int refuse_unknown() {
  return card_refuse(unknown_names[Slot], NOT_SUPPORTED);
}
template <int Slot>
struct Table {
  static void fill(Unknown* table) {
    table[Slot - 1] = refuse_unknown<Slot - 1>;
    Table<Slot - 1>::fill(table);
  }
};
template <>
struct Table<0> {
  static void fill(Unknown*) {}
};

// A function that refuses with the name it was asked for.
void* refusal_for(const char* name) {
  static Unknown table[UNKNOWN_SLOTS];
  static int taken = 0;
  if (!table[0]) Table<UNKNOWN_SLOTS>::fill(table);
  for (int slot = 0; slot < taken; slot++)
    if (!strcmp(unknown_names[slot], name)) return (void*)table[slot];
  int slot = taken < UNKNOWN_SLOTS - 1 ? taken++ : UNKNOWN_SLOTS - 1;
  snprintf(unknown_names[slot], sizeof unknown_names[slot], "%s", name);
  return (void*)table[slot];
}

int driver_entry(const char* name, void** function, int* result) {
  static void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  char versioned[128];
  snprintf(versioned, sizeof versioned, "%s_v2", name);
  void* found = driver ? dlsym(driver, versioned) : nullptr;
  if (!found && driver) found = dlsym(driver, name);
  *function = found ? found : refusal_for(name);
  if (result) *result = 0;
  return SUCCESS;
}

}  // namespace

int remember(int status) {
  if (status != SUCCESS) last = status;
  return status;
}

int status_of(int outcome) {
  const int statuses[] = {SUCCESS, OUT_OF_MEMORY, SYSTEM_CALL_FAILED, INVALID_VALUE};
  return remember(statuses[outcome]);
}

NVIDIA_API int cudaGetDeviceCount(int* count) {
  *count = card_count();
  return remember(*count ? SUCCESS : NO_DEVICE);
}
NVIDIA_API int cudaGetDevice(int* device) {
  *device = card_current();
  return SUCCESS;
}
NVIDIA_API int cudaSetDevice(int device) { return remember(card_select(device) ? INVALID_DEVICE : SUCCESS); }
NVIDIA_API int cudaDeviceSynchronize() {
  work_finish_card();
  return SUCCESS;
}
NVIDIA_API int cudaDeviceReset() { return SUCCESS; }
NVIDIA_API int cudaDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return SUCCESS;
}
NVIDIA_API int cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

NVIDIA_API int cudaGetLastError() {
  int status = last;
  last = SUCCESS;
  return status;
}
NVIDIA_API int cudaPeekAtLastError() { return last; }
NVIDIA_API const char* cudaGetErrorName(int status) { return named(status) ? named(status)->name : "cudaErrorUnknown"; }
NVIDIA_API const char* cudaGetErrorString(int status) {
  if (status == NOT_SUPPORTED && *card_refusal()) return card_refusal();
  if (status == SYSTEM_CALL_FAILED && *space_fault()) return space_fault();
  return named(status) ? named(status)->text : "unknown error";
}

NVIDIA_API int cudaDeviceGetAttribute(int* value, int number, int device) {
  const Card* card = card_at(device);
  if (!card) return remember(INVALID_DEVICE);
  *value = attribute(*card, number, device);
  return SUCCESS;
}

static int properties(DeviceProp* prop, int device) {
  const Card* card = card_at(device);
  if (!card) return remember(INVALID_DEVICE);
  int index = card_index_on_machine(device);
  memset(prop, 0, sizeof *prop);
  memcpy(prop->name, card->name, sizeof prop->name);
  card_uuid(index, prop->uuid);
  prop->total_global_mem = card->total_bytes;
  prop->shared_mem_per_block = 49152;
  prop->regs_per_block = prop->regs_per_multiprocessor = 65536;
  prop->warp_size = 32;
  prop->max_threads_per_block = prop->max_threads_dim[0] = prop->max_threads_dim[1] = 1024;
  prop->max_threads_dim[2] = 64;
  prop->max_grid_size[0] = 2147483647;
  prop->max_grid_size[1] = prop->max_grid_size[2] = 65535;
  prop->total_const_mem = 65536;
  prop->major = card->major;
  prop->minor = card->minor;
  prop->texture_alignment = 512;
  prop->multiprocessor_count = card->multiprocessors;
  prop->can_map_host_memory = prop->concurrent_kernels = prop->async_engine_count = prop->unified_addressing = 1;
  prop->pci_bus_id = index + 1;
  prop->max_threads_per_multiprocessor = card->threads_per_multiprocessor;
  prop->max_blocks_per_multiprocessor = card->blocks_per_multiprocessor;
  prop->shared_mem_per_multiprocessor = card->shared_bytes_per_multiprocessor;
  prop->shared_mem_per_block_optin = card->shared_bytes_per_block_optin;
  prop->reserved_shared_mem_per_block = card->major >= 8 ? 1024 : 0;
  prop->stream_priorities_supported = prop->managed_memory = prop->concurrent_managed_access = 1;
  prop->cooperative_launch = prop->host_register_supported = prop->memory_pools_supported = 1;
  prop->cluster_launch = card->major >= 9;
  return SUCCESS;
}
NVIDIA_API int cudaGetDeviceProperties(DeviceProp* prop, int device) { return properties(prop, device); }
NVIDIA_API int cudaGetDeviceProperties_v2(DeviceProp* prop, int device) { return properties(prop, device); }

NVIDIA_API int cudaDeviceGetPCIBusId(char* text, int size, int device) {
  snprintf(text, size, "0000:%02x:00.0", card_index_on_machine(device) + 1);
  return SUCCESS;
}
NVIDIA_API int cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return SUCCESS;
}
NVIDIA_API int cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 1;
  return SUCCESS;
}
NVIDIA_API int cudaDeviceEnablePeerAccess(int, unsigned) { return SUCCESS; }
NVIDIA_API int cudaDeviceDisablePeerAccess(int) { return SUCCESS; }
NVIDIA_API int cudaProfilerStart() { return SUCCESS; }
NVIDIA_API int cudaProfilerStop() { return SUCCESS; }

NVIDIA_API int cudaGetDriverEntryPoint(const char* name, void** function, unsigned long long, int* result) {
  return driver_entry(name, function, result);
}
NVIDIA_API int cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                                int* result) {
  return driver_entry(name, function, result);
}
