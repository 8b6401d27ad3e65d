// NVRTC: torch compiles some operators when they are first used. Kernels do nothing, so any image will do.
#include "card.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace {
constexpr char IMAGE[64] = "an image that nothing runs";
std::map<std::string, std::string> names;
}

NVIDIA_API int nvrtcVersion(int* major, int* minor) {
  *major = CUDA_VERSION / 1000;
  *minor = CUDA_VERSION % 1000 / 10;
  return 0;
}
NVIDIA_API const char* nvrtcGetErrorString(int status) { return status == 0 ? "NVRTC_SUCCESS" : card_refusal(); }
NVIDIA_API int nvrtcCreateProgram(void** program, const char*, const char*, int, const char**, const char**) {
  *program = calloc(1, 8);
  return 0;
}
NVIDIA_API int nvrtcDestroyProgram(void** program) {
  free(*program);
  *program = nullptr;
  return 0;
}
NVIDIA_API int nvrtcAddNameExpression(void*, const char*) { return 0; }
NVIDIA_API int nvrtcCompileProgram(void*, int, const char**) { return 0; }
NVIDIA_API int nvrtcGetLoweredName(void*, const char* expression, const char** lowered) {
  *lowered = (names[expression] = expression).c_str();
  return 0;
}
static int size(void*, size_t* bytes) {
  *bytes = sizeof IMAGE;
  return 0;
}
static int copy(void*, char* image) {
  memcpy(image, IMAGE, sizeof IMAGE);
  return 0;
}
NVIDIA_API int nvrtcGetCUBINSize(void* program, size_t* bytes) { return size(program, bytes); }
NVIDIA_API int nvrtcGetPTXSize(void* program, size_t* bytes) { return size(program, bytes); }
NVIDIA_API int nvrtcGetCUBIN(void* program, char* image) { return copy(program, image); }
NVIDIA_API int nvrtcGetPTX(void* program, char* image) { return copy(program, image); }
NVIDIA_API int nvrtcGetProgramLogSize(void*, size_t* bytes) {
  *bytes = 1;
  return 0;
}
NVIDIA_API int nvrtcGetProgramLog(void*, char* log) {
  *log = 0;
  return 0;
}
