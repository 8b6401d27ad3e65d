// NCCL: collectives that return at once. Every rank is taken to hold what this one holds, which is true of the shapes
// and flags that programs exchange; floats are noise anyway. What NCCL itself takes on a card is not counted.
#include "card.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace {

constexpr int INVALID_USAGE = 5;  // ncclResult_t

struct Communicator {
  int ranks, rank;
};
struct UniqueId {
  char bytes[128];
};

// ncclDataType_t: int8, uint8, int32, uint32, int64, uint64, float16, float32, float64, bfloat16, two float8.
size_t element_bytes(int type) {
  const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  return sizes[type];
}

int keep(void* to, const void* from, size_t bytes) {
  if (to != from) space_copy(to, from, bytes);
  return 0;
}

int join(Communicator** communicator, int ranks, int rank) {
  *communicator = new Communicator{ranks, rank};
  return 0;
}

// A collective is one launch on its stream.
int launch(void* stream) {
  work_give(stream);
  return 0;
}

}  // namespace

NVIDIA_API int ncclGetVersion(int* version) {
  *version = NCCL_VERSION;
  return 0;
}
NVIDIA_API int ncclGetUniqueId(UniqueId* id) {
  memset(id, 0, sizeof *id);
  snprintf(id->bytes, sizeof id->bytes, "fitproof %d", getpid());
  return 0;
}
NVIDIA_API const char* ncclGetErrorString(int status) { return status == 0 ? "no error" : card_refusal(); }
NVIDIA_API const char* ncclGetLastError(void*) { return card_refusal(); }
NVIDIA_API int ncclCommInitRank(Communicator** made, int ranks, UniqueId, int rank) { return join(made, ranks, rank); }
NVIDIA_API int ncclCommInitRankConfig(Communicator** made, int ranks, UniqueId, int rank, void*) {
  return join(made, ranks, rank);
}
NVIDIA_API int ncclCommInitRankScalable(Communicator** made, int ranks, int rank, int, UniqueId*, void*) {
  return join(made, ranks, rank);
}
NVIDIA_API int ncclCommInitAll(Communicator** made, int ranks, const int*) {
  for (int rank = 0; rank < ranks; rank++) join(&made[rank], ranks, rank);
  return 0;
}
// A split communicator is not given its ranks: they would ask each other. fitproof_bootstrap/ranks.py makes torch form
// such groups anew. A negative color (NCCL_SPLIT_NOCOLOR) joins none.
NVIDIA_API int ncclCommSplit(Communicator*, int color, int, Communicator** made, void*) {
  *made = nullptr;
  return color < 0 ? 0 : card_refuse("ncclCommSplit", INVALID_USAGE);
}
NVIDIA_API int ncclCommDestroy(Communicator*) { return 0; }
NVIDIA_API int ncclCommAbort(Communicator*) { return 0; }
NVIDIA_API int ncclCommFinalize(Communicator*) { return 0; }
NVIDIA_API int ncclCommCount(Communicator* communicator, int* ranks) {
  *ranks = communicator->ranks;
  return 0;
}
NVIDIA_API int ncclCommUserRank(Communicator* communicator, int* rank) {
  *rank = communicator->rank;
  return 0;
}
NVIDIA_API int ncclCommCuDevice(Communicator*, int* device) {
  *device = card_current();
  return 0;
}
NVIDIA_API int ncclCommGetAsyncError(Communicator*, int* status) {
  *status = 0;
  return 0;
}
NVIDIA_API int ncclGroupStart() { return 0; }
NVIDIA_API int ncclGroupEnd() { return 0; }
NVIDIA_API int ncclCommRegister(Communicator*, void*, size_t, void** handle) {
  *handle = nullptr;
  return 0;
}
NVIDIA_API int ncclCommDeregister(Communicator*, void*) { return 0; }
NVIDIA_API int ncclRedOpCreatePreMulSum(int* operation, void*, int, int, Communicator*) {
  *operation = 0;
  return 0;
}
NVIDIA_API int ncclRedOpDestroy(int, Communicator*) { return 0; }

NVIDIA_API int ncclAllReduce(const void* from, void* to, size_t count, int type, int, Communicator*, void* stream) {
  keep(to, from, count * element_bytes(type));
  return launch(stream);
}
NVIDIA_API int ncclReduce(const void* from, void* to, size_t count, int type, int, int root, Communicator* group,
                          void* stream) {
  if (group->rank == root) keep(to, from, count * element_bytes(type));
  return launch(stream);
}
NVIDIA_API int ncclBroadcast(const void* from, void* to, size_t count, int type, int root, Communicator* group,
                             void* stream) {
  if (group->rank == root) keep(to, from, count * element_bytes(type));
  return launch(stream);
}
NVIDIA_API int ncclBcast(void*, size_t, int, int, Communicator*, void* stream) { return launch(stream); }
NVIDIA_API int ncclAllGather(const void* from, void* to, size_t count, int type, Communicator* group, void* stream) {
  size_t bytes = count * element_bytes(type);
  for (int rank = 0; rank < group->ranks; rank++) keep((char*)to + rank * bytes, from, bytes);
  return launch(stream);
}
NVIDIA_API int ncclReduceScatter(const void* from, void* to, size_t count, int type, int, Communicator* group,
                                 void* stream) {
  size_t bytes = count * element_bytes(type);
  keep(to, (const char*)from + group->rank * bytes, bytes);
  return launch(stream);
}
NVIDIA_API int ncclAlltoAll(const void* from, void* to, size_t count, int type, Communicator* group, void* stream) {
  keep(to, from, count * element_bytes(type) * group->ranks);
  return launch(stream);
}
NVIDIA_API int ncclGather(const void* from, void* to, size_t count, int type, int root, Communicator* group,
                          void* stream) {
  size_t bytes = count * element_bytes(type);
  for (int rank = 0; rank < group->ranks && group->rank == root; rank++) keep((char*)to + rank * bytes, from, bytes);
  return launch(stream);
}
NVIDIA_API int ncclSend(const void*, size_t, int, int, Communicator*, void* stream) { return launch(stream); }
NVIDIA_API int ncclRecv(void*, size_t, int, int, Communicator*, void* stream) { return launch(stream); }
