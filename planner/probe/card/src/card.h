// The state that all stand-in libraries share: which cards there are, what is taken of each, and what was refused.
// One shared object holds it (card.cpp, peers.cpp, space.cpp, work.cpp); the stand-ins for NVIDIA's libraries link to it.
#pragma once
#include <cstddef>
#include <cstdint>

#define CARD_API extern "C" __attribute__((visibility("default")))
// What a stand-in offers under NVIDIA's name.
#define NVIDIA_API extern "C" __attribute__((visibility("default")))

struct Card {
  char name[256];
  int major, minor;
  int multiprocessors;
  int threads_per_multiprocessor, blocks_per_multiprocessor;
  int shared_bytes_per_multiprocessor, shared_bytes_per_block_optin;
  size_t total_bytes;    // as torch.cuda.get_device_properties reads it
  size_t context_bytes;  // what the driver and the libraries take beside the allocator
};

enum Kind { DEVICE, MANAGED, PINNED, KINDS };
enum Outcome { TAKEN, FULL, NO_ADDRESS_SPACE, UNKNOWN_ADDRESS };

struct Block {
  size_t bytes;
  int device;
  Kind kind;
  bool counted;  // false where other bookkeeping counts it: mapped handles, memory of another process
};

// ---- card.cpp: the cards
CARD_API int card_configure(const char* text);  // 0, or -1 where the text names no card or memory is already taken
CARD_API int card_count();
CARD_API const Card* card_at(int device);
CARD_API int card_index_on_machine(int device);  // CUDA_VISIBLE_DEVICES hides and reorders; NVML sees the machine
CARD_API int card_machine_count();
CARD_API const Card* card_on_machine(int index);
CARD_API int card_current();
CARD_API int card_select(int device);
CARD_API void card_uuid(int index, unsigned char uuid[16]);
CARD_API Outcome card_take(int device, size_t bytes, Kind kind);
CARD_API void card_give(int device, size_t bytes, Kind kind);
CARD_API void card_touch(int device);  // the process has a context on this card from now on
CARD_API uint64_t card_free_bytes(int device);
CARD_API uint64_t card_used_bytes(int device, int kind);
CARD_API uint64_t card_peak_bytes(int device, int kind);
CARD_API uint64_t card_context_bytes(int device);
CARD_API uint64_t card_taken_on_machine(int index);  // by this process, context included
CARD_API void card_reset_peaks();

// ---- card.cpp: refusals. `code` is what the caller's library returns for "not supported"; returned as it is.
CARD_API int card_refuse(const char* name, int code);
CARD_API const char* card_refusal();  // the last sentence, or ""
// What was answered by a model instead of by knowledge: each sentence once, one a line.
CARD_API void card_model(const char* sentence);
CARD_API const char* card_modelled();

// ---- peers.cpp: other processes with the same set of cards, by index on the machine
// What a child of a fork inherited is counted in its parent where there is a set, and else goes on being its own.
CARD_API bool card_has_set();
CARD_API void card_publish(int index, uint64_t bytes);
CARD_API int card_peers(int index, int* pids, uint64_t* bytes, int room);  // how many there are
CARD_API uint64_t card_taken_by_peers(int index);

// ---- space.cpp: addresses
CARD_API void* space_map(size_t bytes);  // null where the process may have no more address space
CARD_API void space_unmap(void* address, size_t bytes);
CARD_API Outcome space_allocate(void** address, size_t bytes, int device, Kind kind);
CARD_API Outcome space_free(void* address);
CARD_API void space_register(void* address, Block block);
CARD_API void space_forget(void* address);  // the block is no longer known and its contents are gone
CARD_API bool space_find(const void* address, Block* block, void** start);
CARD_API void space_copy(void* to, const void* from, size_t bytes);
CARD_API void space_set(void* address, int value, size_t bytes);
CARD_API const char* space_fault();  // one sentence on why address space is missing

// ---- work.cpp: what was given to streams and what of it is done. A handle that is no stream's is the card's own.
CARD_API void work_stream(void* handle);  // a new stream of the current card
CARD_API void work_stream_gone(void* handle);
CARD_API void work_give(void* handle);  // one kernel, copy or collective
CARD_API bool work_stream_is_done(void* handle);
CARD_API void work_finish_stream(void* handle);
CARD_API void work_finish_card();  // the current one
CARD_API void* work_mark(void* mark, void* handle);  // what was given to a stream so far; takes an older mark, or null
CARD_API void work_unmark(void* mark);
CARD_API bool work_is_done(void* mark);
CARD_API void work_finish(void* mark);
CARD_API void work_wait(void* handle, void* mark);  // what a stream is given from now on comes after the mark

constexpr size_t PAGE = 2 << 20;  // the driver hands out device memory in pages of 2 MiB
constexpr size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }
