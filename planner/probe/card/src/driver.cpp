// CUDA driver: devices, contexts, modules and launches, as torch, Triton and bitsandbytes reach for them.
#include "card.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

// One context per card; the address of its slot is its name.
char contexts[64];
void* context_of(int device) { return &contexts[device]; }
int device_of(void* context) { return (int)((char*)context - contexts); }

int make(void** handle) {
  *handle = calloc(1, 64);
  return SUCCESS;
}

}  // namespace

extern "C" int cudaDeviceGetAttribute(int*, int, int);
extern "C" int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int*, const void*, int, size_t);

NVIDIA_API int cuInit(unsigned) { return card_count() ? SUCCESS : 100; }
NVIDIA_API int cuDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return SUCCESS;
}
NVIDIA_API int cuGetErrorString(int status, const char** text) {
  *text = status == SUCCESS           ? "no error"
          : status == OUT_OF_MEMORY   ? "out of memory"
          : status == INVALID_VALUE   ? "invalid argument"
          : status == INVALID_DEVICE  ? "invalid device ordinal"
          : status == NOT_FOUND       ? "named symbol not found"
          : status == 304             ? space_fault()
          : status == NOT_SUPPORTED   ? card_refusal()
                                      : "unknown error";
  return SUCCESS;
}
NVIDIA_API int cuGetErrorName(int status, const char** text) {
  *text = status == SUCCESS         ? "CUDA_SUCCESS"
          : status == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
          : status == NOT_SUPPORTED ? "CUDA_ERROR_NOT_SUPPORTED"
                                    : "CUDA_ERROR_UNKNOWN";
  return SUCCESS;
}
NVIDIA_API int cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int* result) {
  static void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  char versioned[128];
  snprintf(versioned, sizeof versioned, "%s_v2", name);
  *function = dlsym(driver, versioned);
  if (!*function) *function = dlsym(driver, name);
  if (result) *result = *function ? 0 : 1;
  return *function ? SUCCESS : NOT_FOUND;
}
NVIDIA_API int cuGetProcAddress(const char* name, void** function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}

NVIDIA_API int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return card_at(ordinal) ? SUCCESS : INVALID_DEVICE;
}
NVIDIA_API int cuDeviceGetCount(int* count) {
  *count = card_count();
  return SUCCESS;
}
NVIDIA_API int cuDeviceGetName(char* text, int size, int device) {
  if (!card_at(device)) return INVALID_DEVICE;
  snprintf(text, size, "%s", card_at(device)->name);
  return SUCCESS;
}
NVIDIA_API int cuDeviceGetUuid(unsigned char* uuid, int device) {
  card_uuid(card_index_on_machine(device), uuid);
  return SUCCESS;
}
NVIDIA_API int cuDeviceGetUuid_v2(unsigned char* uuid, int device) { return cuDeviceGetUuid(uuid, device); }
NVIDIA_API int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  if (!card_at(device)) return INVALID_DEVICE;
  *bytes = card_at(device)->total_bytes;
  return SUCCESS;
}
NVIDIA_API int cuDeviceGetAttribute(int* value, int number, int device) {
  return cudaDeviceGetAttribute(value, number, device);
}
NVIDIA_API int cuDeviceCanAccessPeer(int* can, int, int) {
  *can = 1;
  return SUCCESS;
}
NVIDIA_API int cuDeviceGetPCIBusId(char* text, int size, int device) {
  snprintf(text, size, "0000:%02x:00.0", card_index_on_machine(device) + 1);
  return SUCCESS;
}

NVIDIA_API int cuCtxGetCurrent(void** context) {
  *context = context_of(card_current());
  return SUCCESS;
}
NVIDIA_API int cuCtxSetCurrent(void* context) {
  if (context) card_select(device_of(context));
  return SUCCESS;
}
NVIDIA_API int cuCtxGetDevice(int* device) {
  *device = card_current();
  return SUCCESS;
}
NVIDIA_API int cuCtxPushCurrent_v2(void* context) { return cuCtxSetCurrent(context); }
NVIDIA_API int cuCtxPopCurrent_v2(void** context) { return context ? cuCtxGetCurrent(context) : (int)SUCCESS; }
NVIDIA_API int cuCtxSynchronize() {
  work_finish_card();
  return SUCCESS;
}
NVIDIA_API int cuCtxGetLimit(size_t* value, int) {
  *value = 0;
  return SUCCESS;
}
NVIDIA_API int cuCtxSetLimit(int, size_t) { return SUCCESS; }
NVIDIA_API int cuCtxGetApiVersion(void*, unsigned* version) {
  *version = CUDA_VERSION;
  return SUCCESS;
}
NVIDIA_API int cuDevicePrimaryCtxRetain(void** context, int device) {
  card_touch(device);
  *context = context_of(device);
  return SUCCESS;
}
NVIDIA_API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
NVIDIA_API int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
  *flags = 0;
  *active = card_context_bytes(device) > 0;
  return SUCCESS;
}
NVIDIA_API int cuStreamGetCtx(void*, void** context) { return cuCtxGetCurrent(context); }
NVIDIA_API int cuStreamSynchronize(void* stream) {
  work_finish_stream(stream);
  return SUCCESS;
}

// Modules and kernels: Triton's, bitsandbytes' and what torch compiles at run time.
NVIDIA_API int cuModuleLoad(void** module, const char*) { return make(module); }
NVIDIA_API int cuModuleLoadData(void** module, const void*) { return make(module); }
NVIDIA_API int cuModuleLoadDataEx(void** module, const void*, unsigned, void*, void*) { return make(module); }
NVIDIA_API int cuModuleUnload(void* module) {
  free(module);
  return SUCCESS;
}
NVIDIA_API int cuModuleGetFunction(void** function, void*, const char*) { return make(function); }
NVIDIA_API int cuModuleGetGlobal_v2(void** address, size_t* bytes, void*, const char*) {
  *address = calloc(1, 65536);
  if (bytes) *bytes = 65536;
  return SUCCESS;
}
NVIDIA_API int cuFuncGetAttribute(int* value, int number, void*) {
  // CUfunction_attribute: 0 threads per block, 4 registers. Triton warns by them of spills; there are none.
  *value = number == 0 ? 1024 : number == 4 ? 32 : 0;
  return SUCCESS;
}
NVIDIA_API int cuFuncSetAttribute(void*, int, int) { return SUCCESS; }
NVIDIA_API int cuFuncSetCacheConfig(void*, int) { return SUCCESS; }
struct LaunchConfiguration {  // CUlaunchConfig, as far as it is read
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
};
NVIDIA_API int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void* stream) {
  work_give(stream);
  return SUCCESS;
}
NVIDIA_API int cuLaunchKernelEx(const LaunchConfiguration* asked) {
  work_give(asked->stream);
  return SUCCESS;
}
NVIDIA_API int cuLaunchCooperativeKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                         void* stream) {
  work_give(stream);
  return SUCCESS;
}
NVIDIA_API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function, int threads, size_t bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, bytes);
}
NVIDIA_API int cuOccupancyMaxActiveClusters(int* clusters, void*, const void*) {
  *clusters = 1;
  return SUCCESS;
}
// A tensor map is read by kernels only.
NVIDIA_API int cuTensorMapEncodeTiled() { return SUCCESS; }
NVIDIA_API int cuTensorMapEncodeIm2col() { return SUCCESS; }
// torch registers a listener for the driver's log; there is nothing to hear.
NVIDIA_API int cuLogsRegisterCallback(void*, void*, void** handle) {
  if (handle) *handle = nullptr;
  return SUCCESS;
}
NVIDIA_API int cuLogsUnregisterCallback(void*) { return SUCCESS; }
