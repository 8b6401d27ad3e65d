// cuDNN's batch normalization, which torch asks for by its older interface (aten/src/ATen/native/cudnn/BatchNorm.cpp):
// nothing is computed, and neither workspace nor reserve space is needed. Statistics are tensors of torch's own.
//
// What the library truly takes only it can tell; the note says so wherever it was asked.
#include "card.h"

#include <cstdlib>

namespace {
const char NOTE[] = "cuDNN's workspace of batch normalization is modelled as 0 bytes: the library that would tell is not there";

int no_bytes(size_t* size) {
  *size = 0;
  card_model(NOTE);
  return 0;
}
}  // namespace

NVIDIA_API int cudnnCreateTensorDescriptor(void** descriptor) {
  *descriptor = calloc(1, 1);
  return 0;
}
NVIDIA_API int cudnnDestroyTensorDescriptor(void* descriptor) {
  free(descriptor);
  return 0;
}
NVIDIA_API int cudnnSetTensorNdDescriptor(void*, int, int, const int*, const int*) { return 0; }
NVIDIA_API int cudnnDeriveBNTensorDescriptor(void*, void*, int) { return 0; }
NVIDIA_API int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    void*, int, int, void*, void*, void*, void*, void*, size_t* size) {
  return no_bytes(size);
}
NVIDIA_API int cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    void*, int, int, void*, void*, void*, void*, void*, void*, void*, size_t* size) {
  return no_bytes(size);
}
NVIDIA_API int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, void*, size_t* size) {
  return no_bytes(size);
}
NVIDIA_API int cudnnBatchNormalizationForwardTrainingEx() { return 0; }
NVIDIA_API int cudnnBatchNormalizationForwardInference() { return 0; }
NVIDIA_API int cudnnBatchNormalizationBackwardEx() { return 0; }
