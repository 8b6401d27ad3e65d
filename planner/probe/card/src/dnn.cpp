// cuDNN: the handle and its questions. dnn_graph.cpp answers the graph API.
#include "card.h"

#include <cstdio>

NVIDIA_API size_t cudnnGetVersion() { return DNN_VERSION; }
NVIDIA_API size_t cudnnGetCudartVersion() { return CUDA_VERSION; }
NVIDIA_API int cudnnGetProperty(int which, int* value) {
  const int parts[] = {DNN_VERSION / 10000, DNN_VERSION / 100 % 100, DNN_VERSION % 100};
  *value = parts[which];
  return 0;
}
struct Handle {
  void* stream;
};
NVIDIA_API int cudnnCreate(Handle** handle) {
  *handle = new Handle{nullptr};
  return 0;
}
NVIDIA_API int cudnnDestroy(Handle* handle) {
  delete handle;
  return 0;
}
NVIDIA_API int cudnnSetStream(Handle* handle, void* stream) {
  handle->stream = stream;
  return 0;
}
NVIDIA_API int cudnnGetStream(Handle* handle, void** stream) {
  *stream = handle->stream;
  return 0;
}
NVIDIA_API const char* cudnnGetErrorString(int status) { return status == 0 ? "CUDNN_STATUS_SUCCESS" : card_refusal(); }
NVIDIA_API void cudnnGetLastErrorString(char* text, size_t size) { snprintf(text, size, "%s", card_refusal()); }
