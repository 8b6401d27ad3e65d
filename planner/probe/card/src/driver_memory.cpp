// CUDA driver: memory by handle, mapped into reserved addresses. torch's expandable segments are made of it.
#include "card.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, SYSTEM_CALL_FAILED = 304 };

// Physical memory: counted from creation until it is both released and unmapped everywhere.
struct Handle {
  size_t bytes;
  int device;
  int holders;
  bool counted;
};

std::mutex lock;
std::map<void*, Handle*> mapped;

void drop(Handle* handle) {
  if (--handle->holders) return;
  if (handle->counted) card_give(handle->device, handle->bytes, DEVICE);
  delete handle;
}

// What a child of a fork inherited of a set's cards is counted in its parent.
void before_fork() { lock.lock(); }
void after_fork() { lock.unlock(); }
void in_child() {
  if (card_has_set())
    for (auto& entry : mapped) entry.second->counted = false;
  lock.unlock();
}
const int watching_forks = pthread_atfork(before_fork, after_fork, in_child);

// CUmemAllocationProp up to what is read: type, requested handle types, and where it lies.
struct AllocationProp {
  int type, handle_types, location_type, location_id;
  void* windows;
  unsigned char flags[8];
};

}  // namespace

NVIDIA_API int cuMemGetAllocationGranularity(size_t* bytes, const void*, int) {
  *bytes = PAGE;
  return SUCCESS;
}
NVIDIA_API int cuMemAddressReserve(void** address, size_t bytes, size_t, void*, unsigned long long) {
  *address = space_map(bytes);
  return *address ? SUCCESS : SYSTEM_CALL_FAILED;
}
NVIDIA_API int cuMemAddressFree(void* address, size_t bytes) {
  space_unmap(address, bytes);
  return SUCCESS;
}
NVIDIA_API int cuMemCreate(Handle** handle, size_t bytes, const AllocationProp* prop, unsigned long long) {
  int device = prop->location_id;
  if (card_take(device, bytes, DEVICE) != TAKEN) return OUT_OF_MEMORY;
  *handle = new Handle{bytes, device, 1, true};
  return SUCCESS;
}
NVIDIA_API int cuMemRelease(Handle* handle) {
  std::lock_guard<std::mutex> guard(lock);
  drop(handle);
  return SUCCESS;
}
NVIDIA_API int cuMemMap(void* address, size_t bytes, size_t, Handle* handle, unsigned long long) {
  std::lock_guard<std::mutex> guard(lock);
  handle->holders++;
  mapped[address] = handle;
  space_register(address, {bytes, handle->device, DEVICE, false});
  return SUCCESS;
}
NVIDIA_API int cuMemUnmap(void* address, size_t bytes) {
  std::lock_guard<std::mutex> guard(lock);
  char* end = (char*)address + bytes;
  for (auto entry = mapped.lower_bound(address); entry != mapped.end() && (char*)entry->first < end;) {
    space_forget(entry->first);
    drop(entry->second);
    entry = mapped.erase(entry);
  }
  return SUCCESS;
}
NVIDIA_API int cuMemSetAccess(void*, size_t, const void*, size_t) { return SUCCESS; }
NVIDIA_API int cuMemRetainAllocationHandle(Handle** handle, void* address) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = mapped.find(address);
  if (found == mapped.end()) return INVALID_VALUE;
  *handle = found->second;
  found->second->holders++;
  return SUCCESS;
}
NVIDIA_API int cuMemGetAllocationPropertiesFromHandle(AllocationProp* prop, Handle* handle) {
  memset(prop, 0, sizeof *prop);
  prop->type = prop->location_type = 1;  // pinned, on a device
  prop->location_id = handle->device;
  return SUCCESS;
}
NVIDIA_API int cuMemGetAddressRange_v2(void** start, size_t* bytes, void* address) {
  Block block;
  void* first;
  if (!space_find(address, &block, &first)) return INVALID_VALUE;
  if (start) *start = first;
  if (bytes) *bytes = block.bytes;
  return SUCCESS;
}
NVIDIA_API int cuMemsetD32Async(void* address, unsigned value, size_t count, void* stream) {
  work_give(stream);
  if (value == 0) space_set(address, 0, count * sizeof value);
  else std::fill_n((unsigned*)address, count, value);
  return SUCCESS;
}
NVIDIA_API int cuStreamWriteValue32(void*, void* address, unsigned value, unsigned) {
  *(unsigned*)address = value;
  return SUCCESS;
}
// CUpointer_attribute: 2 memory type, 3 and 4 device and host pointer, 9 the device.
NVIDIA_API int cuPointerGetAttribute(void* value, int attribute, void* address) {
  Block block;
  if (!space_find(address, &block, nullptr)) return INVALID_VALUE;
  if (attribute == 2) *(unsigned*)value = block.kind == PINNED ? 1 : 2;
  else if (attribute == 3 || attribute == 4) *(void**)value = address;
  else if (attribute == 9) *(int*)value = block.device;
  else return card_refuse("cuPointerGetAttribute", 801);
  return SUCCESS;
}

// Memory between processes: the file descriptor names a size; the exporter keeps the count.
NVIDIA_API int cuMemExportToShareableHandle(int* file, Handle* handle, int, unsigned long long) {
  *file = memfd_create("fitproof-handle", MFD_CLOEXEC);
  if (*file < 0 || write(*file, &handle->bytes, sizeof handle->bytes) != sizeof handle->bytes) return SYSTEM_CALL_FAILED;
  return SUCCESS;
}
NVIDIA_API int cuMemImportFromShareableHandle(Handle** handle, void* file, int) {
  size_t bytes = 0;
  if (pread((int)(size_t)file, &bytes, sizeof bytes, 0) != sizeof bytes) return INVALID_VALUE;
  *handle = new Handle{bytes, card_current(), 1, false};
  return SUCCESS;
}
