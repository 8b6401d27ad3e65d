// NVML: what tools and torch ask about the machine's cards, agreeing with what the runtime counted.
#include "card.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace {

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

struct Memory {
  unsigned long long total, free, used;
};
struct MemoryV2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
struct Process {
  unsigned pid;
  unsigned long long used;
  unsigned gpu_instance, compute_instance;
};
struct PciInfo {
  char legacy[16];
  unsigned domain, bus, device, pci_device, pci_subsystem;
  char text[32];
};

int index_of(void* handle) { return (int)(size_t)handle - 1; }
int handle_of(int index, void** handle) {
  if (index < 0 || index >= card_machine_count()) return INVALID_ARGUMENT;
  *handle = (void*)(size_t)(index + 1);
  return SUCCESS;
}
const Card* card_of(void* handle) { return card_on_machine(index_of(handle)); }

}  // namespace

NVIDIA_API int nvmlInit_v2() { return SUCCESS; }
NVIDIA_API int nvmlInit() { return SUCCESS; }
NVIDIA_API int nvmlInitWithFlags(unsigned) { return SUCCESS; }
NVIDIA_API int nvmlShutdown() { return SUCCESS; }
NVIDIA_API const char* nvmlErrorString(int status) {
  return status == SUCCESS ? "The operation was successful" : status == NOT_SUPPORTED ? "Not Supported" : "Invalid Argument";
}
NVIDIA_API int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  snprintf(text, size, "virtual");
  return SUCCESS;
}
NVIDIA_API int nvmlSystemGetNVMLVersion(char* text, unsigned size) {
  snprintf(text, size, "%d.virtual", CUDA_VERSION / 1000);
  return SUCCESS;
}
NVIDIA_API int nvmlSystemGetCudaDriverVersion(int* version) {
  *version = CUDA_VERSION;
  return SUCCESS;
}
NVIDIA_API int nvmlSystemGetCudaDriverVersion_v2(int* version) { return nvmlSystemGetCudaDriverVersion(version); }

NVIDIA_API int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = card_machine_count();
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetCount(unsigned* count) { return nvmlDeviceGetCount_v2(count); }
NVIDIA_API int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) { return handle_of(index, handle); }
NVIDIA_API int nvmlDeviceGetHandleByIndex(unsigned index, void** handle) { return handle_of(index, handle); }
NVIDIA_API int nvmlDeviceGetHandleByPciBusId_v2(const char* text, void** handle) {
  unsigned bus = 0;
  return sscanf(text, "%*x:%x", &bus) == 1 ? handle_of((int)bus - 1, handle) : (int)INVALID_ARGUMENT;
}
NVIDIA_API int nvmlDeviceGetHandleByPciBusId(const char* text, void** handle) {
  return nvmlDeviceGetHandleByPciBusId_v2(text, handle);
}
NVIDIA_API int nvmlDeviceGetUUID(void* handle, char* text, unsigned size) {
  unsigned char u[16];
  card_uuid(index_of(handle), u);
  snprintf(text, size, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
           u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetHandleByUUID(const char* wanted, void** handle) {
  char text[64];
  for (int index = 0; index < card_machine_count(); index++) {
    handle_of(index, handle);
    nvmlDeviceGetUUID(*handle, text, sizeof text);
    if (!strncmp(text, wanted, strlen(wanted))) return SUCCESS;
  }
  return NOT_FOUND;
}
NVIDIA_API int nvmlDeviceGetIndex(void* handle, unsigned* index) {
  *index = index_of(handle);
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetName(void* handle, char* text, unsigned size) {
  snprintf(text, size, "%s", card_of(handle)->name);
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetCudaComputeCapability(void* handle, int* major, int* minor) {
  *major = card_of(handle)->major;
  *minor = card_of(handle)->minor;
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetPciInfo_v3(void* handle, PciInfo* info) {
  memset(info, 0, sizeof *info);
  info->bus = index_of(handle) + 1;
  snprintf(info->legacy, sizeof info->legacy, "0000:%02X:00.0", info->bus);
  snprintf(info->text, sizeof info->text, "00000000:%02X:00.0", info->bus);
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetMemoryInfo(void* handle, Memory* memory) {
  memory->total = card_of(handle)->total_bytes;
  memory->used = card_taken_on_machine(index_of(handle)) + card_taken_by_peers(index_of(handle));
  memory->free = memory->total - memory->used;
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetMemoryInfo_v2(void* handle, MemoryV2* memory) {
  Memory plain;
  nvmlDeviceGetMemoryInfo(handle, &plain);
  memory->total = plain.total;
  memory->reserved = 0;
  memory->free = plain.free;
  memory->used = plain.used;
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetComputeRunningProcesses_v3(void* handle, unsigned* count, Process* processes) {
  constexpr int MOST = 64;
  int pids[MOST];
  uint64_t bytes[MOST];
  int others = card_peers(index_of(handle), pids, bytes, MOST - 1);
  if (uint64_t own = card_taken_on_machine(index_of(handle))) {
    pids[others] = getpid();
    bytes[others++] = own;
  }
  unsigned room = *count;
  *count = others;
  if (others && (room < *count || !processes)) return INSUFFICIENT_SIZE;
  for (int number = 0; number < others; number++)
    processes[number] = {(unsigned)pids[number], bytes[number], 0xFFFFFFFF, 0xFFFFFFFF};
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetComputeRunningProcesses_v2(void* handle, unsigned* count, Process* processes) {
  return nvmlDeviceGetComputeRunningProcesses_v3(handle, count, processes);
}
NVIDIA_API int nvmlDeviceGetComputeRunningProcesses(void* handle, unsigned* count, Process* processes) {
  return nvmlDeviceGetComputeRunningProcesses_v3(handle, count, processes);
}
NVIDIA_API int nvmlDeviceGetGraphicsRunningProcesses_v3(void*, unsigned* count, Process*) {
  *count = 0;
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetComputeMode(void*, int* mode) {
  *mode = 0;
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetDisplayActive(void*, int* active) {
  *active = 0;
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetPersistenceMode(void*, int* mode) {
  *mode = 1;
  return SUCCESS;
}
NVIDIA_API int nvmlDeviceGetMigMode(void*, unsigned*, unsigned*) { return NOT_SUPPORTED; }
NVIDIA_API int nvmlDeviceGetGpuFabricInfoV(void*, void*) { return NOT_SUPPORTED; }
NVIDIA_API int nvmlDeviceGetNvLinkRemoteDeviceType(void*, unsigned, int*) { return NOT_SUPPORTED; }
NVIDIA_API int nvmlDeviceGetNvLinkState(void*, unsigned, int*) { return NOT_SUPPORTED; }
NVIDIA_API int nvmlDeviceGetNvLinkRemotePciInfo_v2(void*, unsigned, void*) { return NOT_SUPPORTED; }
NVIDIA_API int nvmlDeviceGetNvLinkCapability(void*, unsigned, int, unsigned*) { return NOT_SUPPORTED; }
NVIDIA_API int nvmlDeviceGetP2PStatus(void*, void*, int, int*) { return NOT_SUPPORTED; }
