// cuBLASLt: the descriptors, and an algorithm that needs no workspace beyond what torch sets aside for it.
#include "card.h"

#include <cstdlib>
#include <cstring>

namespace {

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {  // cublasLtMatmulHeuristicResult_t
  Algorithm algorithm;
  size_t workspace_bytes;
  int status;
  float waves;
  int reserved[4];
};

// Descriptors are filled by the caller and never read.
int make(void** descriptor) {
  *descriptor = calloc(1, 512);
  return 0;
}
int drop(void* descriptor) {
  free(descriptor);
  return 0;
}

}  // namespace

NVIDIA_API size_t cublasLtGetVersion() { return BLAS_VERSION; }
NVIDIA_API int cublasLtCreate(void** handle) { return make(handle); }
NVIDIA_API int cublasLtDestroy(void* handle) { return drop(handle); }
NVIDIA_API int cublasLtMatmulDescCreate(void** descriptor, int, int) { return make(descriptor); }
NVIDIA_API int cublasLtMatmulDescDestroy(void* descriptor) { return drop(descriptor); }
NVIDIA_API int cublasLtMatrixLayoutCreate(void** layout, int, uint64_t, uint64_t, int64_t) { return make(layout); }
NVIDIA_API int cublasLtMatrixLayoutDestroy(void* layout) { return drop(layout); }
NVIDIA_API int cublasLtMatmulPreferenceCreate(void** preference) { return make(preference); }
NVIDIA_API int cublasLtMatmulPreferenceDestroy(void* preference) { return drop(preference); }
NVIDIA_API int cublasLtMatmulAlgoInit(void*, int, int, int, int, int, int, int, Algorithm* algorithm) {
  memset(algorithm, 0, sizeof *algorithm);
  return 0;
}
NVIDIA_API int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int wanted,
                                              Heuristic* results, int* found) {
  *found = wanted > 0;
  if (*found) memset(results, 0, sizeof *results);
  return 0;
}
NVIDIA_API int cublasLtMatmulAlgoCheck(void*, void*, void*, void*, void*, void*, const void*, Heuristic* result) {
  memset(result, 0, sizeof *result);
  return 0;
}
NVIDIA_API int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*,
                              void*, void*, void*, const void*, void*, size_t, void* stream) {
  work_give(stream);
  return 0;
}
