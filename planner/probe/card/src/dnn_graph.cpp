// cuDNN's graph API, as far as torch's attention and convolutions ask: whatever graph is described, one engine runs it,
// without notes and without knobs, and its plan needs no workspace of its own.
//
// What a plan truly takes only the library can tell. The parts of attention that grow with the batch are not in it:
// cudnn-frontend, which is compiled into torch, adds the float32 gradient of the query and the row sums itself
// (get_fe_workspace_size_node in its scaled_dot_product_flash_attention.h). So 0 bytes is modelled, and said so.
#include "card.h"

#include <cstdio>
#include <cstdlib>

namespace {

enum { SUCCESS = 0, UNSUPPORTED = 3000 };
constexpr int64_t MODELLED_WORKSPACE_BYTES = 0;
const char NOTE[] =
    "cuDNN's own workspace is modelled as 0 bytes: the library that would tell is not there; "
    "what cudnn-frontend adds to it is counted";

// cudnnBackendAttributeName_t, by number.
enum Attribute {
  ENGINEHEUR_RESULTS = 202,
  ENGINECFG_ENGINE = 300,
  ENGINECFG_KNOB_CHOICES = 302,
  ENGINECFG_WORKSPACE_SIZE = 303,
  ENGINECFG_SHARED_MEMORY_USED = 304,
  EXECUTION_PLAN_WORKSPACE_SIZE = 402,
  OPERATIONGRAPH_ENGINE_GLOBAL_COUNT = 802,
  ENGINE_GLOBAL_INDEX = 1301,
  ENGINE_KNOB_INFO = 1302,
  ENGINE_NUMERICAL_NOTE = 1303,
  ENGINE_BEHAVIOR_NOTE = 1305,
};

int tell(int64_t* count, int64_t found, void* elements, int64_t value) {
  if (count) *count = found;
  if (elements) *(int64_t*)elements = value;
  return SUCCESS;
}

int tell_count(int64_t* count, int64_t found) {
  if (count) *count = found;
  return SUCCESS;
}

}  // namespace

NVIDIA_API int cudnnBackendCreateDescriptor(int, void** descriptor) {
  *descriptor = calloc(1, 64);
  return SUCCESS;
}
NVIDIA_API int cudnnBackendDestroyDescriptor(void* descriptor) {
  free(descriptor);
  return SUCCESS;
}
NVIDIA_API int cudnnBackendSetAttribute(void*, int, int, int64_t, const void*) { return SUCCESS; }
NVIDIA_API int cudnnBackendFinalize(void*) { return SUCCESS; }
NVIDIA_API int cudnnBackendExecute(void*, void*, void*) { return SUCCESS; }
NVIDIA_API int cudnnBackendGetAttribute(void*, int attribute, int, int64_t, int64_t* count, void* elements) {
  switch (attribute) {
    // The caller made the descriptors that an answer is written into; they stay as they are.
    case ENGINEHEUR_RESULTS:
    case ENGINECFG_ENGINE:
      return tell_count(count, 1);
    case ENGINECFG_KNOB_CHOICES:
    case ENGINE_KNOB_INFO:
    case ENGINE_NUMERICAL_NOTE:
    case ENGINE_BEHAVIOR_NOTE:
      return tell_count(count, 0);
    case OPERATIONGRAPH_ENGINE_GLOBAL_COUNT:
      return tell(count, 1, elements, 1);
    case ENGINE_GLOBAL_INDEX:
      return tell(count, 1, elements, 0);
    case ENGINECFG_SHARED_MEMORY_USED:
      *(int*)elements = 0;
      return tell_count(count, 1);
    case ENGINECFG_WORKSPACE_SIZE:
    case EXECUTION_PLAN_WORKSPACE_SIZE:
      card_model(NOTE);
      return tell(count, 1, elements, MODELLED_WORKSPACE_BYTES);
    default:
      char name[64];
      snprintf(name, sizeof name, "cudnnBackendGetAttribute(%d)", attribute);
      return card_refuse(name, UNSUPPORTED);
  }
}
