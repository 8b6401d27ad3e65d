// CUDA runtime: streams and events. What a call does is done when it returns; that the card has done it, and may hand
// memory on, is known later (work.cpp).
#include "card.h"
#include "runtime.h"

#include <chrono>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int NOT_READY = 600;  // cudaErrorNotReady: an answer, not an error

struct Event {
  std::chrono::steady_clock::time_point at;
  void* mark;
};

int make_stream(void** stream) {
  *stream = malloc(16);
  work_stream(*stream);
  return SUCCESS;
}

}  // namespace

NVIDIA_API int cudaStreamCreate(void** stream) { return make_stream(stream); }
NVIDIA_API int cudaStreamCreateWithFlags(void** stream, unsigned) { return make_stream(stream); }
NVIDIA_API int cudaStreamCreateWithPriority(void** stream, unsigned, int) { return make_stream(stream); }
NVIDIA_API int cudaStreamDestroy(void* stream) {
  work_stream_gone(stream);
  free(stream);
  return SUCCESS;
}
NVIDIA_API int cudaStreamQuery(void* stream) { return work_stream_is_done(stream) ? SUCCESS : NOT_READY; }
NVIDIA_API int cudaStreamSynchronize(void* stream) {
  work_finish_stream(stream);
  return SUCCESS;
}
NVIDIA_API int cudaStreamWaitEvent(void* stream, Event* event, unsigned) {
  work_wait(stream, event->mark);
  return SUCCESS;
}
NVIDIA_API int cudaStreamGetPriority(void*, int* priority) {
  *priority = 0;
  return SUCCESS;
}
NVIDIA_API int cudaStreamGetFlags(void*, unsigned* flags) {
  *flags = 0;
  return SUCCESS;
}
NVIDIA_API int cudaStreamAddCallback(void* stream, void (*call)(void*, int, void*), void* data, unsigned) {
  call(stream, SUCCESS, data);
  return SUCCESS;
}
NVIDIA_API int cudaLaunchHostFunc(void*, void (*call)(void*), void* data) {
  call(data);
  return SUCCESS;
}

// No stream is ever capturing: cudaStreamBeginCapture refuses with its name.
NVIDIA_API int cudaStreamIsCapturing(void*, int* status) {
  *status = 0;
  return SUCCESS;
}
#if CUDA_MAJOR >= 13
NVIDIA_API int cudaStreamGetCaptureInfo(void*, int* status, unsigned long long* id, void** graph, const void** nodes,
                                        const void** edges, size_t* count) {
#else
NVIDIA_API int cudaStreamGetCaptureInfo(void*, int* status, unsigned long long* id) {
  *status = 0;
  if (id) *id = 0;
  return SUCCESS;
}
NVIDIA_API int cudaStreamGetCaptureInfo_v2(void*, int* status, unsigned long long* id, void** graph, const void** nodes,
                                           size_t* count) {
  *status = 0;
  if (id) *id = 0;
  if (graph) *graph = nullptr;
  if (nodes) *nodes = nullptr;
  if (count) *count = 0;
  return SUCCESS;
}
NVIDIA_API int cudaStreamGetCaptureInfo_v3(void*, int* status, unsigned long long* id, void** graph, const void** nodes,
                                           const void** edges, size_t* count) {
#endif
  *status = 0;
  if (id) *id = 0;
  if (graph) *graph = nullptr;
  if (nodes) *nodes = nullptr;
  if (edges) *edges = nullptr;
  if (count) *count = 0;
  return SUCCESS;
}
NVIDIA_API int cudaThreadExchangeStreamCaptureMode(int* mode) {
  *mode = 0;
  return SUCCESS;
}

NVIDIA_API int cudaEventCreate(Event** event) {
  *event = new Event{};
  return SUCCESS;
}
NVIDIA_API int cudaEventCreateWithFlags(Event** event, unsigned) { return cudaEventCreate(event); }
NVIDIA_API int cudaEventDestroy(Event* event) {
  work_unmark(event->mark);
  delete event;
  return SUCCESS;
}
NVIDIA_API int cudaEventQuery(Event* event) { return work_is_done(event->mark) ? SUCCESS : NOT_READY; }
NVIDIA_API int cudaEventSynchronize(Event* event) {
  work_finish(event->mark);
  return SUCCESS;
}
NVIDIA_API int cudaEventRecord(Event* event, void* stream) {
  event->mark = work_mark(event->mark, stream);
  event->at = std::chrono::steady_clock::now();
  return SUCCESS;
}
NVIDIA_API int cudaEventRecordWithFlags(Event* event, void* stream, unsigned) { return cudaEventRecord(event, stream); }
NVIDIA_API int cudaEventElapsedTime(float* milliseconds, Event* from, Event* to) {
  *milliseconds = std::chrono::duration<float, std::milli>(to->at - from->at).count();
  return SUCCESS;
}
NVIDIA_API int cudaEventElapsedTime_v2(float* milliseconds, Event* from, Event* to) {
  return cudaEventElapsedTime(milliseconds, from, to);
}
struct EventHandle {
  char bytes[64];
};
NVIDIA_API int cudaIpcGetEventHandle(void* handle, Event*) {
  memset(handle, 0, sizeof(EventHandle));
  return SUCCESS;
}
NVIDIA_API int cudaIpcOpenEventHandle(Event** event, EventHandle) { return cudaEventCreate(event); }
