// cuBLAS: handles and questions. What only multiplies into card memory is one more launch (stubs.py).
#include "card.h"

namespace {

struct Handle {
  void* stream;  // the first field: stubs.py reads it
};

}  // namespace

NVIDIA_API int cublasCreate_v2(Handle** handle) {
  *handle = new Handle{};
  return 0;
}
NVIDIA_API int cublasDestroy_v2(Handle* handle) {
  delete handle;
  return 0;
}
NVIDIA_API int cublasSetStream_v2(Handle* handle, void* stream) {
  handle->stream = stream;
  return 0;
}
NVIDIA_API int cublasGetMathMode(void*, int* mode) {
  *mode = 0;
  return 0;
}
NVIDIA_API int cublasGetPointerMode_v2(void*, int* mode) {
  *mode = 0;
  return 0;
}
NVIDIA_API int cublasGetVersion_v2(void*, int* version) {
  *version = BLAS_VERSION;
  return 0;
}
NVIDIA_API const char* cublasGetStatusString(int status) {
  return status == 0 ? "success" : status == 15 ? card_refusal() : "unknown cuBLAS status";
}
NVIDIA_API const char* cublasGetStatusName(int status) {
  return status == 0 ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS_NOT_SUPPORTED";
}
