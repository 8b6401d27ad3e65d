// Addresses without memory behind them. A card's memory is host address space that is never written: 80 GB cost nothing
// until something writes. Python computes whole numbers in place there, so what was written is kept, page by page,
// and what was never written reads as zero.
#include "card.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

namespace {

constexpr size_t HOST_PAGE = 4096;
// Copies up to this size are made byte by byte; walking pages would cost more.
constexpr size_t PLAIN_BYTES = 64 << 10;
// A larger payload from the host is weights, not ids or masks: bytes count, values do not. 4 MiB are 524,288 ids, or
// a mask of 2,048 by 2,048 booleans.
constexpr size_t PAYLOAD_BYTES = 4 << 20;
// A fill with anything but zero touches its pages; zero never does.
constexpr size_t FILL_BYTES = 64 << 20;

std::mutex lock;
std::map<uintptr_t, Block> blocks;
int shared_file = -1;  // where private address space is refused (vm.overcommit_memory=2), a sparse file has it
pid_t shared_owner = 0;
off_t shared_end = 0;
char fault[512];

// Of equally large free blocks torch's allocator takes the one at the lowest address, so the order of addresses decides
// where holes open. A real driver's fall: played in falling order, published runs of a T4 come out to the byte in
// reserved memory, and rising they are off by up to 9 % (planner/evidence/reports/published_dry_runs.md). The kernel
// falls, too, but fills holes between what else the process has mapped; so the card has a range where nothing else is.
constexpr uintptr_t HIGHEST = 0x700000000000, LOWEST = 0x100000000000;
uintptr_t edge = HIGHEST;  // the lowest address given out so far; under `lock`

void* map_falling(size_t bytes, int flags, int file, off_t offset) {
  if (edge - LOWEST < round_up(bytes, PAGE)) edge = HIGHEST;
  uintptr_t start = edge - round_up(bytes, PAGE);
  int fixed = flags | MAP_FIXED_NOREPLACE;
  void* address = mmap((void*)start, bytes, PROT_READ | PROT_WRITE, fixed, file, offset);
  if (address != MAP_FAILED) return edge = start, address;
  return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, file, offset);
}

// Shared mappings are not charged to the commit limit: Documentation/mm/overcommit-accounting.rst.
void* map_shared(size_t bytes) {
  if (shared_owner != getpid()) {  // a child of a fork must not write into its parent's file
    shared_file = memfd_create("fitproof-card", MFD_CLOEXEC);
    shared_owner = getpid();
    shared_end = 0;
  }
  if (shared_file < 0 || ftruncate(shared_file, shared_end + bytes) != 0) return MAP_FAILED;
  void* address = map_falling(bytes, MAP_SHARED | MAP_NORESERVE, shared_file, shared_end);
  if (address != MAP_FAILED) shared_end += bytes;
  return address;
}

void tell_fault(size_t bytes) {
  rlimit limit{};
  getrlimit(RLIMIT_AS, &limit);
  double gib = bytes / double(1 << 30);
  if (limit.rlim_cur == RLIM_INFINITY)
    snprintf(fault, sizeof fault, "the virtual card found no address space for %.2f GiB (%s)", gib, strerror(errno));
  else
    snprintf(fault, sizeof fault,
             "the virtual card needs address space, not memory, and this process may have no more than %.2f GiB of it: "
             "raise the limit (ulimit -v unlimited)",
             limit.rlim_cur / double(1 << 30));
}

const std::pair<const uintptr_t, Block>* find(const void* address) {
  auto next = blocks.upper_bound((uintptr_t)address);
  if (next == blocks.begin()) return nullptr;
  auto& found = *--next;
  return (uintptr_t)address < found.first + found.second.bytes ? &found : nullptr;
}

bool is_sparse(const void* address) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = find(address);
  return found && found->second.kind != PINNED;
}

// Drop whole pages, so that they read as zero; fill the ragged ends.
void zero(char* address, size_t bytes) {
  char* first = (char*)round_up((uintptr_t)address, HOST_PAGE);
  char* last = (char*)((uintptr_t)(address + bytes) / HOST_PAGE * HOST_PAGE);
  if (first >= last) {
    memset(address, 0, bytes);
    return;
  }
  memset(address, 0, first - address);
  if (madvise(first, last - first, shared_file < 0 ? MADV_DONTNEED : MADV_REMOVE) != 0) memset(first, 0, last - first);
  memset(last, 0, address + bytes - last);
}

// Pages that were swapped out are not resident, and still hold what was written: bits 63 and 62 of their entries in
// /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst).
void add_swapped(const char* page, unsigned char* resident, size_t pages) {
  static const bool has_swap = [] {
    struct sysinfo info;
    return sysinfo(&info) != 0 || info.totalswap > 0;
  }();
  if (!has_swap) return;
  static thread_local uint64_t entries[16384];
  int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  ssize_t wanted = pages * sizeof *entries;
  if (file >= 0 && pread(file, entries, wanted, (uintptr_t)page / HOST_PAGE * sizeof *entries) == wanted)
    for (size_t number = 0; number < pages; number++) resident[number] |= entries[number] >> 62 != 0;
  if (file >= 0) close(file);
}

// Call `seen(start, bytes, resident)` for each run of pages of one kind.
template <typename Seen>
void walk_pages(const char* address, size_t bytes, Seen seen) {
  static thread_local unsigned char resident[16384];
  const char* end = address + bytes;
  while (address < end) {
    const char* page = (const char*)((uintptr_t)address / HOST_PAGE * HOST_PAGE);
    size_t pages = std::min(sizeof resident, (size_t)(end - page + HOST_PAGE - 1) / HOST_PAGE);
    if (mincore((void*)page, pages * HOST_PAGE, resident) != 0) memset(resident, 1, pages);
    add_swapped(page, resident, pages);
    for (size_t first = 0, last; first < pages; first = last) {
      for (last = first + 1; last < pages && (resident[last] & 1) == (resident[first] & 1);) last++;
      const char* from = std::max(address, page + first * HOST_PAGE);
      const char* to = std::min(end, page + last * HOST_PAGE);
      seen(from, to - from, resident[first] & 1);
    }
    address = page + pages * HOST_PAGE;
  }
}

void zero_anywhere(char* address, size_t bytes, bool sparse) {
  if (sparse) return zero(address, bytes);
  walk_pages(address, bytes, [](const char* part, size_t size, bool resident) {
    if (resident) memset((char*)part, 0, size);
  });
}

// What a child of a fork inherited of a set's cards is counted in its parent: freeing it gives nothing back.
void before_fork() { lock.lock(); }
void after_fork() { lock.unlock(); }
void in_child() {
  if (card_has_set())
    for (auto& entry : blocks) entry.second.counted = false;
  lock.unlock();
}
const int watching_forks = pthread_atfork(before_fork, after_fork, in_child);

}  // namespace

CARD_API void* space_map(size_t bytes) {
  bytes = round_up(bytes, HOST_PAGE);
  void* address;
  {
    std::lock_guard<std::mutex> guard(lock);
    address = map_falling(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) address = map_shared(bytes);
    if (address == MAP_FAILED) return tell_fault(bytes), nullptr;
  }
  madvise(address, bytes, MADV_NOHUGEPAGE);  // one written number must not cost 2 MiB
  return address;
}

CARD_API void space_unmap(void* address, size_t bytes) {
  if (shared_file >= 0) madvise(address, round_up(bytes, HOST_PAGE), MADV_REMOVE);
  munmap(address, round_up(bytes, HOST_PAGE));
}

CARD_API Outcome space_allocate(void** address, size_t bytes, int device, Kind kind) {
  *address = nullptr;
  if (bytes == 0) return TAKEN;
  Outcome outcome = card_take(device, bytes, kind);
  if (outcome != TAKEN) return outcome;
  void* found = space_map(bytes);
  if (!found) {
    card_give(device, bytes, kind);
    return NO_ADDRESS_SPACE;
  }
  space_register(found, {bytes, device, kind, true});
  *address = found;
  return TAKEN;
}

CARD_API Outcome space_free(void* address) {
  if (!address) return TAKEN;
  Block block;
  {
    std::lock_guard<std::mutex> guard(lock);
    auto found = blocks.find((uintptr_t)address);
    if (found == blocks.end()) return UNKNOWN_ADDRESS;
    block = found->second;
    blocks.erase(found);
  }
  if (block.counted) card_give(block.device, block.bytes, block.kind);
  space_unmap(address, block.bytes);
  return TAKEN;
}

CARD_API void space_register(void* address, Block block) {
  std::lock_guard<std::mutex> guard(lock);
  blocks[(uintptr_t)address] = block;
}

CARD_API void space_forget(void* address) {
  size_t bytes = 0;
  {
    std::lock_guard<std::mutex> guard(lock);
    auto found = blocks.find((uintptr_t)address);
    if (found == blocks.end()) return;
    bytes = found->second.bytes;
    blocks.erase(found);
  }
  zero((char*)address, bytes);
}

CARD_API bool space_find(const void* address, Block* block, void** start) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = find(address);
  if (!found) return false;
  *block = found->second;
  if (start) *start = (void*)found->first;
  return true;
}

CARD_API void space_copy(void* to, const void* from, size_t bytes) {
  bool to_card = is_sparse(to), from_card = is_sparse(from);
  if (bytes <= PLAIN_BYTES || (!to_card && !from_card)) {
    memmove(to, from, bytes);
    return;
  }
  if (!from_card && bytes > PAYLOAD_BYTES) return zero((char*)to, bytes);
  ptrdiff_t shift = (char*)to - (const char*)from;
  walk_pages((const char*)from, bytes, [=](const char* part, size_t size, bool resident) {
    char* target = (char*)part + shift;
    if (resident) memmove(target, part, size);
    else zero_anywhere(target, size, to_card);
  });
}

CARD_API void space_set(void* address, int value, size_t bytes) {
  if (!is_sparse(address) || bytes <= PLAIN_BYTES) memset(address, value, bytes);
  else if ((value & 0xff) == 0) zero((char*)address, bytes);
  else if (bytes <= FILL_BYTES) memset(address, value, bytes);
}

CARD_API const char* space_fault() { return fault; }
