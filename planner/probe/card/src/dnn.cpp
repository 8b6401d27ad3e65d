// cuDNN: present, so that torch loads, and unable: its graph API refuses, so that attention falls to flash attention.
#include "card.h"

#include <cstdlib>
#include <cstdio>

NVIDIA_API size_t cudnnGetVersion() { return DNN_VERSION; }
NVIDIA_API size_t cudnnGetCudartVersion() { return CUDA_VERSION; }
NVIDIA_API int cudnnGetProperty(int which, int* value) {
  const int parts[] = {DNN_VERSION / 10000, DNN_VERSION / 100 % 100, DNN_VERSION % 100};
  *value = parts[which];
  return 0;
}
NVIDIA_API int cudnnCreate(void** handle) {
  *handle = calloc(1, 64);
  return 0;
}
NVIDIA_API int cudnnDestroy(void* handle) {
  free(handle);
  return 0;
}
NVIDIA_API int cudnnSetStream(void*, void*) { return 0; }
NVIDIA_API const char* cudnnGetErrorString(int status) { return status == 0 ? "CUDNN_STATUS_SUCCESS" : card_refusal(); }
NVIDIA_API void cudnnGetLastErrorString(char* text, size_t size) { snprintf(text, size, "%s", card_refusal()); }
