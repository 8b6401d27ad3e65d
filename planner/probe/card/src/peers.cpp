// Processes that share a set of cards, as the ranks of one run do. Each publishes what it takes in an anonymous file
// that bears the set's name and goes with the process, however it ends; the others find it through /proc.
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
constexpr size_t BYTES = CARDS * sizeof(uint64_t);
// A look through /proc takes some milliseconds; figures of processes known already are read where they are mapped.
constexpr auto LOOK_EVERY = std::chrono::milliseconds(200);

struct Peer {
  int pid;
  volatile uint64_t* taken;  // by index on the machine
};

std::mutex lock;
std::vector<Peer> peers;
std::chrono::steady_clock::time_point looked;
volatile uint64_t* mine = nullptr;
pid_t owner = 0;

const char* set_name() { return getenv("FITPROOF_CARD_SET"); }

void* map(int file, int protection) {
  void* address = mmap(nullptr, BYTES, protection, MAP_SHARED, file, 0);
  return address == MAP_FAILED ? nullptr : address;
}

void publish_anew() {
  char name[64];
  snprintf(name, sizeof name, "fitproof-%s", set_name());
  int file = memfd_create(name, MFD_CLOEXEC);
  mine = file >= 0 && ftruncate(file, BYTES) == 0 ? (uint64_t*)map(file, PROT_READ | PROT_WRITE) : nullptr;
  owner = getpid();
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
  }
  if (files) closedir(files);
  return found;
}

void look() {
  if (std::chrono::steady_clock::now() - looked < LOOK_EVERY) return;
  for (auto& peer : peers) munmap((void*)peer.taken, BYTES);
  peers.clear();
  char wanted[96];
  snprintf(wanted, sizeof wanted, "/memfd:fitproof-%s ", set_name());
  DIR* processes = opendir("/proc");
  while (dirent* entry = processes ? readdir(processes) : nullptr) {
    int pid = atoi(entry->d_name);
    if (pid <= 0 || pid == getpid()) continue;
    if (void* taken = map_of(pid, wanted)) peers.push_back({pid, (volatile uint64_t*)taken});
  }
  if (processes) closedir(processes);
  looked = std::chrono::steady_clock::now();
}

}  // namespace

CARD_API void card_publish(int index, uint64_t bytes) {
  if (!set_name() || index >= CARDS) return;
  std::lock_guard<std::mutex> guard(lock);
  if (owner != getpid()) publish_anew();
  if (mine) mine[index] = bytes;
}

CARD_API int card_peers(int index, int* pids, uint64_t* bytes, int room) {
  if (!set_name() || index >= CARDS) return 0;
  std::lock_guard<std::mutex> guard(lock);
  look();
  int found = 0;
  for (const auto& peer : peers)
    if (uint64_t taken = peer.taken[index]; taken && found < room) {
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
