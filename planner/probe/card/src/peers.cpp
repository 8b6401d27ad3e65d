// Processes that share a set of cards, as the ranks of one run do. Each publishes what it takes in an anonymous file
// that bears the set's name and goes with the process, however it ends; the others find it through /proc. A child of a
// fork holds its parent's file open: the file names its owner, so that it is not counted twice.
#include "card.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr int CARDS = 64;
struct Page {
  uint64_t owner;         // process id
  uint64_t taken[CARDS];  // by index on the machine
};
// A look through /proc takes some milliseconds; figures of processes known already are read where they are mapped.
constexpr auto LOOK_EVERY = std::chrono::milliseconds(200);

struct Peer {
  int pid;
  volatile Page* page;
};

std::mutex lock;
std::vector<Peer> peers;
std::chrono::steady_clock::time_point looked;
volatile Page* mine = nullptr;
pid_t owner = 0;

const char* set_name() { return getenv("FITPROOF_CARD_SET"); }

void* map(int file, int protection) {
  void* address = mmap(nullptr, sizeof(Page), protection, MAP_SHARED, file, 0);
  return address == MAP_FAILED ? nullptr : address;
}

void publish_anew() {
  char name[64];
  snprintf(name, sizeof name, "fitproof-%s", set_name());
  int file = memfd_create(name, MFD_CLOEXEC);
  mine = file >= 0 && ftruncate(file, sizeof(Page)) == 0 ? (Page*)map(file, PROT_READ | PROT_WRITE) : nullptr;
  owner = getpid();
  if (mine) mine->owner = owner;
}

void* map_of(int pid, const char* wanted) {
  char folder[64], path[320], target[128];
  snprintf(folder, sizeof folder, "/proc/%d/fd", pid);
  DIR* files = opendir(folder);
  void* found = nullptr;
  while (files && !found) {
    dirent* entry = readdir(files);
    if (!entry) break;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length <= 0) continue;
    target[length] = 0;
    if (strncmp(target, wanted, strlen(wanted)) != 0) continue;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;
    found = map(file, PROT_READ);
    close(file);
    if (found && ((volatile Page*)found)->owner != (uint64_t)pid) {
      munmap(found, sizeof(Page));
      found = nullptr;
    }
  }
  if (files) closedir(files);
  return found;
}

void look() {
  if (std::chrono::steady_clock::now() - looked < LOOK_EVERY) return;
  for (auto& peer : peers) munmap((void*)peer.page, sizeof(Page));
  peers.clear();
  char wanted[96];
  snprintf(wanted, sizeof wanted, "/memfd:fitproof-%s ", set_name());
  DIR* processes = opendir("/proc");
  while (dirent* entry = processes ? readdir(processes) : nullptr) {
    int pid = atoi(entry->d_name);
    if (pid <= 0 || pid == getpid()) continue;
    if (void* page = map_of(pid, wanted)) peers.push_back({pid, (volatile Page*)page});
  }
  if (processes) closedir(processes);
  looked = std::chrono::steady_clock::now();
}

}  // namespace

CARD_API bool card_has_set() { return set_name() != nullptr; }

CARD_API void card_publish(int index, uint64_t bytes) {
  if (!set_name() || index >= CARDS) return;
  std::lock_guard<std::mutex> guard(lock);
  if (owner != getpid()) publish_anew();
  if (mine) mine->taken[index] = bytes;
}

CARD_API int card_peers(int index, int* pids, uint64_t* bytes, int room) {
  if (!set_name() || index >= CARDS) return 0;
  std::lock_guard<std::mutex> guard(lock);
  look();
  int found = 0;
  for (const auto& peer : peers)
    if (uint64_t taken = peer.page->taken[index]; taken && found < room) {
      pids[found] = peer.pid;
      bytes[found++] = taken;
    }
  return found;
}

CARD_API uint64_t card_taken_by_peers(int index) {
  int pids[CARDS];
  uint64_t bytes[CARDS], sum = 0;
  for (int number = card_peers(index, pids, bytes, CARDS) - 1; number >= 0; number--) sum += bytes[number];
  return sum;
}
