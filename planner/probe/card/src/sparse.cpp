// cuSPARSE: a handle, which bitsandbytes asks for when it loads. Sparse matrices refuse with the name of the call.
#include "card.h"

#include <cstdlib>

NVIDIA_API int cusparseCreate(void** handle) {
  *handle = calloc(1, 64);
  return 0;
}
NVIDIA_API int cusparseDestroy(void* handle) {
  free(handle);
  return 0;
}
NVIDIA_API const char* cusparseGetErrorString(int) { return card_refusal(); }
