// CUDA runtime: memory of every kind, copies, pools, and memory shared between processes.
#include "card.h"
#include "runtime.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <pthread.h>

namespace {

int allocate(void** address, size_t bytes, Kind kind) {
  return status_of(space_allocate(address, bytes, card_current(), kind));
}
int release(void* address) { return status_of(space_free(address)); }

// A copy to memory that is not pinned returns when it is done, asynchronous or not: CUDA runtime API reference, "API
// synchronization behavior". cudaMemcpyKind and the like tell nothing that the addresses do not.
void give_copy(void* to, const void* from, void* stream) {
  Block block;
  work_give(stream);
  if (space_find(from, &block, nullptr) && !space_find(to, &block, nullptr)) work_finish_stream(stream);
}

int copy(void* to, const void* from, size_t bytes, void* stream) {
  give_copy(to, from, stream);
  space_copy(to, from, bytes);
  return SUCCESS;
}

int copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
              void* stream) {
  give_copy(to, from, stream);
  for (size_t row = 0; row < height; row++)
    space_copy((char*)to + row * to_pitch, (const char*)from + row * from_pitch, width);
  return SUCCESS;
}

std::map<void*, size_t> registered;
std::mutex registered_lock;

// cudaMemoryType
enum { UNREGISTERED, HOST_MEMORY, DEVICE_MEMORY, MANAGED_MEMORY };

// A handle to memory of another process holds 64 bytes; the block's size is all that its reader needs.
struct Shared {
  size_t bytes;
  int device;
};

// One pool per card, as torch's cudaMallocAsync backend uses it. A pool grows by 32 MiB and keeps what is freed
// (torch sets the release threshold to the maximum) until it is trimmed or the card is full.
constexpr size_t POOL_PAGE = 32 << 20;
struct Pool {
  size_t used = 0, used_high = 0, reserved = 0, reserved_high = 0;
};
Pool pools[64];
std::mutex pools_lock;

bool pool_grow(int device, size_t used) {
  Pool& pool = pools[device];
  size_t wanted = round_up(used, POOL_PAGE);
  if (wanted > pool.reserved) {
    if (card_take(device, wanted - pool.reserved, DEVICE) != TAKEN) return false;
    pool.reserved = wanted;
  }
  pool.used = used;
  pool.used_high = std::max(pool.used_high, used);
  pool.reserved_high = std::max(pool.reserved_high, pool.reserved);
  return true;
}

void pool_trim(int device, size_t keep) {
  Pool& pool = pools[device];
  size_t wanted = std::max(round_up(pool.used, POOL_PAGE), round_up(keep, POOL_PAGE));
  if (wanted >= pool.reserved) return;
  card_give(device, pool.reserved - wanted, DEVICE);
  pool.reserved = wanted;
}

// What a child of a fork inherited of a set's cards is counted in its parent: its pools are empty, and blocks of them
// are nobody's.
void before_fork() { pools_lock.lock(), registered_lock.lock(); }
void after_fork() { registered_lock.unlock(), pools_lock.unlock(); }
void in_child() {
  if (card_has_set()) {
    for (auto& pool : pools) pool = Pool{};
    registered.clear();
  }
  after_fork();
}
const int watching_forks = pthread_atfork(before_fork, after_fork, in_child);

int pool_of(void* handle) { return (int)((Pool*)handle - pools); }

}  // namespace

NVIDIA_API int cudaMalloc(void** address, size_t bytes) {
  Outcome outcome = space_allocate(address, bytes, card_current(), DEVICE);
  if (outcome == FULL) {
    std::lock_guard<std::mutex> guard(pools_lock);
    pool_trim(card_current(), 0);
  } else {
    return status_of(outcome);
  }
  return allocate(address, bytes, DEVICE);
}
NVIDIA_API int cudaMallocManaged(void** address, size_t bytes, unsigned) { return allocate(address, bytes, MANAGED); }
NVIDIA_API int cudaMallocHost(void** address, size_t bytes) { return allocate(address, bytes, PINNED); }
NVIDIA_API int cudaHostAlloc(void** address, size_t bytes, unsigned) { return allocate(address, bytes, PINNED); }
NVIDIA_API int cudaFreeHost(void* address) { return release(address); }
// Memory that the program took itself and pins afterwards.
NVIDIA_API int cudaHostRegister(void* address, size_t bytes, unsigned) {
  std::lock_guard<std::mutex> guard(registered_lock);
  if (!registered.emplace(address, bytes).second) return remember(ALREADY_REGISTERED);
  return status_of(card_take(card_current(), bytes, PINNED));
}
NVIDIA_API int cudaHostUnregister(void* address) {
  std::lock_guard<std::mutex> guard(registered_lock);
  auto found = registered.find(address);
  if (found == registered.end()) return remember(NOT_REGISTERED);
  card_give(card_current(), found->second, PINNED);
  registered.erase(found);
  return SUCCESS;
}
NVIDIA_API int cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return SUCCESS;
}

NVIDIA_API int cudaMallocAsync(void** address, size_t bytes, void*) {
  *address = nullptr;
  if (!bytes) return SUCCESS;
  std::lock_guard<std::mutex> guard(pools_lock);
  int device = card_current();
  size_t rounded = round_up(bytes, 512);
  if (!pool_grow(device, pools[device].used + rounded)) {
    pool_trim(device, 0);
    if (!pool_grow(device, pools[device].used + rounded)) return status_of(FULL);
  }
  *address = space_map(rounded);
  if (!*address) {
    pools[device].used -= rounded;
    return status_of(NO_ADDRESS_SPACE);
  }
  space_register(*address, {rounded, device, DEVICE, false});
  return SUCCESS;
}
NVIDIA_API int cudaMallocFromPoolAsync(void** address, size_t bytes, void*, void* stream) {
  return cudaMallocAsync(address, bytes, stream);
}
NVIDIA_API int cudaFreeAsync(void* address, void*) {
  Block block;
  void* start;
  if (!address) return SUCCESS;
  if (!space_find(address, &block, &start) || start != address) return remember(INVALID_VALUE);
  if (!block.counted) {
    std::lock_guard<std::mutex> guard(pools_lock);
    pools[block.device].used -= std::min(pools[block.device].used, block.bytes);
  }
  return release(address);
}
NVIDIA_API int cudaFree(void* address) {
  work_finish_card();
  return cudaFreeAsync(address, nullptr);
}

NVIDIA_API int cudaDeviceGetDefaultMemPool(void** pool, int device) {
  *pool = &pools[device];
  return SUCCESS;
}
NVIDIA_API int cudaDeviceGetMemPool(void** pool, int device) { return cudaDeviceGetDefaultMemPool(pool, device); }
NVIDIA_API int cudaMemPoolSetAccess(void*, const void*, size_t) { return SUCCESS; }
NVIDIA_API int cudaMemPoolTrimTo(void* pool, size_t keep) {
  std::lock_guard<std::mutex> guard(pools_lock);
  pool_trim(pool_of(pool), keep);
  return SUCCESS;
}
// cudaMemPoolAttr: 1 to 3 are reuse rules, 4 the release threshold, 5 to 8 reserved and used, now and at their highest.
NVIDIA_API int cudaMemPoolGetAttribute(void* handle, int attribute, void* value) {
  std::lock_guard<std::mutex> guard(pools_lock);
  const Pool& pool = *(Pool*)handle;
  size_t values[] = {pool.reserved, pool.reserved_high, pool.used, pool.used_high};
  if (attribute < 5 || attribute > 8) return remember(card_refuse("cudaMemPoolGetAttribute", NOT_SUPPORTED));
  *(size_t*)value = values[attribute - 5];
  return SUCCESS;
}
NVIDIA_API int cudaMemPoolSetAttribute(void* handle, int attribute, void*) {
  std::lock_guard<std::mutex> guard(pools_lock);
  Pool& pool = *(Pool*)handle;
  if (attribute == 6) pool.reserved_high = pool.reserved;
  if (attribute == 8) pool.used_high = pool.used;
  return SUCCESS;
}

NVIDIA_API int cudaMemGetInfo(size_t* free, size_t* total) {
  const Card* card = card_at(card_current());
  if (!card) return remember(NO_DEVICE);
  if (free) *free = card_free_bytes(card_current());
  if (total) *total = card->total_bytes;
  return SUCCESS;
}

NVIDIA_API int cudaPointerGetAttributes(PointerAttributes* attributes, const void* address) {
  const int types[] = {DEVICE_MEMORY, MANAGED_MEMORY, HOST_MEMORY};
  Block block{};
  memset(attributes, 0, sizeof *attributes);
  attributes->device = -1;
  if (!space_find(address, &block, nullptr)) return SUCCESS;
  attributes->type = types[block.kind];
  attributes->device = block.device;
  attributes->device_pointer = (void*)address;
  attributes->host_pointer = block.kind == DEVICE ? nullptr : (void*)address;
  return SUCCESS;
}

NVIDIA_API int cudaMemcpy(void* to, const void* from, size_t bytes, int) {
  int status = copy(to, from, bytes, nullptr);
  work_finish_stream(nullptr);
  return status;
}
NVIDIA_API int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, void* stream) {
  return copy(to, from, bytes, stream);
}
NVIDIA_API int cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes) {
  return copy(to, from, bytes, nullptr);
}
NVIDIA_API int cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, void* stream) {
  return copy(to, from, bytes, stream);
}
NVIDIA_API int cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                            int) {
  int status = copy_rows(to, to_pitch, from, from_pitch, width, height, nullptr);
  work_finish_stream(nullptr);
  return status;
}
NVIDIA_API int cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                 size_t height, int, void* stream) {
  return copy_rows(to, to_pitch, from, from_pitch, width, height, stream);
}
NVIDIA_API int cudaMemsetAsync(void* address, int value, size_t bytes, void* stream) {
  work_give(stream);
  space_set(address, value, bytes);
  return SUCCESS;
}
NVIDIA_API int cudaMemset(void* address, int value, size_t bytes) {
  return cudaMemsetAsync(address, value, bytes, nullptr);
}
// Where managed memory lies changes nothing that is counted: it is the host's need until the card has room.
NVIDIA_API int cudaMemPrefetchAsync() { return SUCCESS; }
NVIDIA_API int cudaMemAdvise() { return SUCCESS; }

// Memory of another process counts there; here it is address space. Its contents are not shared.
NVIDIA_API int cudaIpcGetMemHandle(void* handle, void* address) {
  Block block;
  if (!space_find(address, &block, nullptr)) return remember(INVALID_VALUE);
  Shared shared{block.bytes, block.device};
  memset(handle, 0, 64);
  memcpy(handle, &shared, sizeof shared);
  return SUCCESS;
}
struct IpcHandle {
  char bytes[64];
};
NVIDIA_API int cudaIpcOpenMemHandle(void** address, IpcHandle handle, unsigned) {
  Shared shared;
  memcpy(&shared, handle.bytes, sizeof shared);
  *address = space_map(shared.bytes);
  if (!*address) return status_of(NO_ADDRESS_SPACE);
  space_register(*address, {shared.bytes, card_current(), DEVICE, false});
  return SUCCESS;
}
NVIDIA_API int cudaIpcCloseMemHandle(void* address) { return release(address); }
