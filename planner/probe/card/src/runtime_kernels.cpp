// CUDA runtime: kernels. A launch does nothing, but only where the binary has code that this card could run.
#include "card.h"
#include "runtime.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace {

// What nvcc embeds: a wrapper that points to a container of images, each for one architecture. Layouts: the wrapper as
// `fatBinaryCtl.h` of CUDA's own samples has it, the container as the open readers of it agree on.
struct Wrapper {
  int magic, version;
  const unsigned char* data;
};
constexpr uint32_t CONTAINER = 0xBA55ED50;
struct Container {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;
};
struct Image {
  uint16_t kind, version;  // kind 1 is PTX, 2 machine code
  uint32_t header_bytes;
  uint64_t payload_bytes;
  uint32_t compressed_bytes, options;
  uint16_t minor, major;
  uint32_t architecture;
};
constexpr int PTX = 1;

struct Code {
  int binary = 0, ptx = 0;  // 86 for sm_86; 0 where nothing runs
};

struct Module {
  const unsigned char* data;
  std::unordered_map<int, Code> code;  // by capability, read when first asked for
};

std::mutex lock;
std::unordered_map<const void*, Module*> kernels;
std::unordered_map<const void*, std::vector<char>> variables;

// Machine code runs on its own generation's later cards; PTX is compiled for any later card:
// CUDA C++ Programming Guide, "Application Compatibility".
Code code_for(const Module& module, int capability) {
  Code best;
  auto* container = (const Container*)module.data;
  if (!container || container->magic != CONTAINER) return {capability, capability};
  const unsigned char* at = module.data + container->header_bytes;
  const unsigned char* end = at + container->bytes;
  while (at + sizeof(Image) <= end) {
    auto* image = (const Image*)at;
    int architecture = image->architecture;
    if (architecture <= capability) {
      if (image->kind == PTX) best.ptx = std::max(best.ptx, architecture);
      else if (architecture / 10 == capability / 10) best.binary = std::max(best.binary, architecture);
    }
    at += image->header_bytes + image->payload_bytes;
  }
  if (!best.binary && best.ptx) best.binary = capability;
  if (best.binary && !best.ptx) best.ptx = best.binary;
  return best;
}

Code code_of(const void* kernel) {
  const Card* card = card_at(card_current());
  int capability = card ? card->major * 10 + card->minor : 0;
  std::lock_guard<std::mutex> guard(lock);
  auto found = kernels.find(kernel);
  if (found == kernels.end()) return {capability, capability};
  auto known = found->second->code.find(capability);
  if (known == found->second->code.end())
    known = found->second->code.emplace(capability, code_for(*found->second, capability)).first;
  return known->second;
}

int launch(const void* kernel, void* stream) {
  if (!code_of(kernel).binary) return remember(NO_KERNEL_IMAGE);
  work_give(stream);
  return SUCCESS;
}

struct LaunchConfiguration {  // cudaLaunchConfig_t, as far as it is read
  Dim3 grid, block;
  size_t shared_bytes;
  void* stream;
};

struct Configuration {
  Dim3 grid, block;
  size_t shared_bytes;
  void* stream;
};
thread_local std::vector<Configuration> configurations;

}  // namespace

NVIDIA_API Module* __cudaRegisterFatBinary(Wrapper* wrapper) { return new Module{wrapper->data, {}}; }
NVIDIA_API void __cudaRegisterFatBinaryEnd(Module*) {}
NVIDIA_API void __cudaUnregisterFatBinary(Module*) {}
NVIDIA_API char __cudaInitModule(Module*) { return 1; }
NVIDIA_API void __cudaRegisterFunction(Module* module, const void* host, char*, const char*, int, void*, void*, Dim3*,
                                       Dim3*, int*) {
  std::lock_guard<std::mutex> guard(lock);
  kernels[host] = module;
}
NVIDIA_API void __cudaRegisterVar(Module*, const void* host, char*, const char*, int, size_t bytes, int, int) {
  std::lock_guard<std::mutex> guard(lock);
  variables[host].resize(bytes);
}
NVIDIA_API int cudaGetSymbolAddress(void** address, const void* host) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = variables.find(host);
  if (found == variables.end()) return remember(card_refuse("cudaGetSymbolAddress", NOT_SUPPORTED));
  *address = found->second.data();
  return SUCCESS;
}
NVIDIA_API int cudaMemcpyToSymbol(const void* host, const void* from, size_t bytes, size_t offset, int) {
  void* address;
  int status = cudaGetSymbolAddress(&address, host);
  if (status == SUCCESS) memcpy((char*)address + offset, from, bytes);
  return status;
}

NVIDIA_API unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared_bytes, void* stream) {
  configurations.push_back({grid, block, shared_bytes, stream});
  return 0;
}
NVIDIA_API int __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared_bytes, void** stream) {
  if (configurations.empty()) return remember(INVALID_VALUE);
  Configuration last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared_bytes = last.shared_bytes;
  *stream = last.stream;
  return SUCCESS;
}
NVIDIA_API int __cudaGetKernel(const void** kernel, const void* host) {
  *kernel = host;
  return SUCCESS;
}
NVIDIA_API int cudaGetKernel(const void** kernel, const void* host) { return __cudaGetKernel(kernel, host); }
NVIDIA_API int __cudaLaunchKernel(const void* kernel, Dim3, Dim3, void**, size_t, void* stream) {
  return launch(kernel, stream);
}
NVIDIA_API int cudaLaunchKernel(const void* host, Dim3, Dim3, void**, size_t, void* stream) {
  return launch(host, stream);
}
NVIDIA_API int cudaLaunchCooperativeKernel(const void* host, Dim3, Dim3, void**, size_t, void* stream) {
  return launch(host, stream);
}
NVIDIA_API int cudaLaunchKernelExC(const LaunchConfiguration* asked, const void* host, void**) {
  return launch(host, asked->stream);
}

// CUB finds its tuning by the architecture that the code was compiled for, so it must be one of the binary's own.
// Registers: 32 let as many threads run as a multiprocessor holds, 65,536 of 2,048.
NVIDIA_API int cudaFuncGetAttributes(FuncAttributes* attributes, const void* host) {
  Code code = code_of(host);
  memset(attributes, 0, sizeof *attributes);
  if (!code.binary) return remember(NO_KERNEL_IMAGE);
  attributes->max_threads_per_block = 1024;
  attributes->num_regs = 32;
  attributes->binary_version = code.binary;
  attributes->ptx_version = code.ptx;
  attributes->max_dynamic_shared_bytes = 49152;
  return SUCCESS;
}
NVIDIA_API int cudaFuncSetAttribute(const void*, int, int) { return SUCCESS; }
NVIDIA_API int cudaFuncSetCacheConfig(const void*, int) { return SUCCESS; }
NVIDIA_API int cudaKernelSetAttributeForDevice(const void*, int, int, int) { return SUCCESS; }
NVIDIA_API int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t) {
  const Card* card = card_at(card_current());
  if (!card) return remember(NO_DEVICE);
  *blocks = std::clamp(card->threads_per_multiprocessor / std::max(threads, 1), 1, card->blocks_per_multiprocessor);
  return SUCCESS;
}
NVIDIA_API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* kernel, int threads,
                                                                      size_t shared_bytes, unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared_bytes);
}

// Code loaded at run time.
NVIDIA_API int cudaLibraryLoadData(void** library, const void*, void*, void*, unsigned, void*, void*, unsigned) {
  *library = malloc(8);
  return SUCCESS;
}
NVIDIA_API int cudaLibraryUnload(void* library) {
  free(library);
  return SUCCESS;
}
NVIDIA_API int cudaLibraryGetKernel(void** kernel, void* library, const char*) {
  *kernel = library;
  return SUCCESS;
}
