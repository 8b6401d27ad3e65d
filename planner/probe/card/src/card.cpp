// The cards and their counts.
#include "card.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <pthread.h>
#include <set>
#include <string>
#include <vector>

namespace {

struct Count {
  size_t large = 0, small = 0, peak = 0;
  // Allocations under 1 MiB share pages; the driver takes a whole page at a time for them.
  size_t used() const { return large + round_up(small, PAGE); }
};

struct State {
  Card card;
  Count counts[KINDS];
  bool touched = false;
  size_t context() const { return touched ? card.context_bytes : 0; }
};

std::mutex lock;
std::vector<State> machine;
std::vector<int> visible;
bool visible_known = false;
thread_local int current = 0;
char refusal[512];
std::string modelled;

// "count=2;name=NVIDIA L4;capability=8.9;total_bytes=…;…|name=…": planner/probe/card/spec.py writes it.
void read_field(Card& card, const std::string& key, const std::string& value) {
  auto number = [&] { return strtoull(value.c_str(), nullptr, 10); };
  if (key == "name") snprintf(card.name, sizeof card.name, "%s", value.c_str());
  if (key == "capability") sscanf(value.c_str(), "%d.%d", &card.major, &card.minor);
  if (key == "total_bytes") card.total_bytes = number();
  if (key == "context_bytes") card.context_bytes = number();
  if (key == "multiprocessors") card.multiprocessors = number();
  if (key == "threads_per_multiprocessor") card.threads_per_multiprocessor = number();
  if (key == "blocks_per_multiprocessor") card.blocks_per_multiprocessor = number();
  if (key == "shared_bytes_per_multiprocessor") card.shared_bytes_per_multiprocessor = number();
  if (key == "shared_bytes_per_block_optin") card.shared_bytes_per_block_optin = number();
}

std::vector<std::string> split(const std::string& text, char mark) {
  std::vector<std::string> parts;
  size_t start = 0;
  for (size_t end; (end = text.find(mark, start)) != std::string::npos; start = end + 1)
    parts.push_back(text.substr(start, end - start));
  parts.push_back(text.substr(start));
  return parts;
}

bool read_cards(const char* text, std::vector<State>& found) {
  for (const auto& one : split(text, '|')) {
    State state{};
    size_t count = 1;
    for (const auto& field : split(one, ';')) {
      size_t equals = field.find('=');
      if (equals == std::string::npos) continue;
      std::string key = field.substr(0, equals), value = field.substr(equals + 1);
      if (key == "count") count = strtoull(value.c_str(), nullptr, 10);
      else read_field(state.card, key, value);
    }
    if (!state.card.total_bytes || !state.card.major || !state.card.multiprocessors) return false;
    found.insert(found.end(), count, state);
  }
  return true;
}

int index_of_uuid(const std::string& text) {
  for (size_t index = 0; index < machine.size(); index++) {
    unsigned char uuid[16];
    card_uuid(index, uuid);
    char tail[8];
    snprintf(tail, sizeof tail, "%04x", uuid[14] << 8 | uuid[15]);
    if (text.size() >= 4 && text.compare(text.size() - 4, 4, tail) == 0) return index;
  }
  return -1;
}

// CUDA stops at the first entry that names no card: CUDA C++ Programming Guide, "CUDA Environment Variables".
void settle_visible() {
  if (visible_known) return;
  visible_known = true;
  visible.clear();
  const char* wanted = getenv("CUDA_VISIBLE_DEVICES");
  if (!wanted) {
    for (size_t index = 0; index < machine.size(); index++) visible.push_back(index);
    return;
  }
  for (const auto& entry : split(wanted, ',')) {
    char* end = nullptr;
    long index = entry.rfind("GPU-", 0) == 0 ? index_of_uuid(entry) : strtol(entry.c_str(), &end, 10);
    if (end == entry.c_str() || index < 0 || index >= (long)machine.size()) return;
    visible.push_back(index);
  }
}

State& at(int device) { return machine[visible[device]]; }

void publish(int device) {
  card_publish(visible[device], at(device).context() + at(device).counts[DEVICE].used());
}

}  // namespace

CARD_API int card_configure(const char* text) {
  std::vector<State> found;
  if (!read_cards(text, found)) return -1;
  std::lock_guard<std::mutex> guard(lock);
  for (const auto& state : machine)
    for (const auto& count : state.counts)
      if (count.used()) return -1;
  machine = found;
  visible_known = false;
  return 0;
}

CARD_API int card_count() {
  std::lock_guard<std::mutex> guard(lock);
  settle_visible();
  return visible.size();
}

CARD_API const Card* card_at(int device) { return device < 0 || device >= card_count() ? nullptr : &at(device).card; }
CARD_API int card_index_on_machine(int device) { return device < card_count() ? visible[device] : -1; }
CARD_API int card_machine_count() { return machine.size(); }
CARD_API const Card* card_on_machine(int index) { return &machine[index].card; }
CARD_API int card_current() { return current; }

CARD_API int card_select(int device) {
  if (device < 0 || device >= card_count()) return -1;
  current = device;
  return 0;
}

CARD_API void card_uuid(int index, unsigned char uuid[16]) {
  static const unsigned char base[16] = {0xf1, 0x7b, 0x00, 0xf0, 0, 0, 0x40, 0, 0x80};
  memcpy(uuid, base, 16);
  uuid[14] = index >> 8;
  uuid[15] = index;
}

CARD_API Outcome card_take(int device, size_t bytes, Kind kind) {
  card_count();
  std::lock_guard<std::mutex> guard(lock);
  State& state = at(device);
  state.touched = true;
  Count& count = state.counts[kind];
  Count after = count;
  if (bytes < PAGE / 2) after.small += round_up(bytes, 512);
  else after.large += round_up(bytes, kind == PINNED ? 4096 : PAGE);
  size_t elsewhere = kind == DEVICE ? card_taken_by_peers(visible[device]) : 0;
  if (kind == DEVICE && elsewhere + state.context() + after.used() > state.card.total_bytes) return FULL;
  after.peak = std::max(after.peak, after.used());
  count = after;
  publish(device);
  return TAKEN;
}

CARD_API void card_give(int device, size_t bytes, Kind kind) {
  std::lock_guard<std::mutex> guard(lock);
  Count& count = at(device).counts[kind];
  if (bytes < PAGE / 2) count.small -= round_up(bytes, 512);
  else count.large -= round_up(bytes, kind == PINNED ? 4096 : PAGE);
  publish(device);
}

CARD_API void card_touch(int device) {
  if (device >= card_count() || at(device).touched) return;
  at(device).touched = true;
  publish(device);
}

CARD_API uint64_t card_free_bytes(int device) {
  card_touch(device);
  std::lock_guard<std::mutex> guard(lock);
  State& state = at(device);
  size_t taken = card_taken_by_peers(visible[device]) + state.context() + state.counts[DEVICE].used();
  return taken > state.card.total_bytes ? 0 : state.card.total_bytes - taken;
}

CARD_API uint64_t card_used_bytes(int device, int kind) {
  return device < card_count() ? at(device).counts[kind].used() : 0;
}
CARD_API uint64_t card_peak_bytes(int device, int kind) {
  return device < card_count() ? at(device).counts[kind].peak : 0;
}
CARD_API uint64_t card_context_bytes(int device) { return device < card_count() ? at(device).context() : 0; }
CARD_API uint64_t card_taken_on_machine(int index) {
  return machine[index].context() + machine[index].counts[DEVICE].used();
}

CARD_API void card_reset_peaks() {
  std::lock_guard<std::mutex> guard(lock);
  for (auto& state : machine)
    for (auto& count : state.counts) count.peak = count.used();
}

CARD_API int card_refuse(const char* name, int code) {
  static std::set<std::string> told;
  std::lock_guard<std::mutex> guard(lock);
  // torch has kernels of its own wherever it may use cuDNN (at::globalContext().userEnabledCuDNN).
  const char* way_out = strncmp(name, "cudnn", 5) == 0
                            ? "; torch.backends.cudnn.enabled = False in it takes torch's own kernels, which hold other bytes"
                            : "";
  snprintf(
      refusal, sizeof refusal, "the virtual card does not pretend %s: this program needs a real card%s", name, way_out);
  if (told.insert(name).second) fprintf(stderr, "%s\n", refusal);
  return code;
}

CARD_API const char* card_refusal() { return refusal; }

CARD_API void card_model(const char* sentence) {
  std::lock_guard<std::mutex> guard(lock);
  if (modelled.find(sentence) == std::string::npos) modelled += std::string(modelled.empty() ? "" : "\n") + sentence;
}

CARD_API const char* card_modelled() { return modelled.c_str(); }

namespace {

// Of a set's cards a child of a fork has no context and no memory: what it inherited is counted in its parent.
void before_fork() { lock.lock(); }
void after_fork() { lock.unlock(); }
void in_child() {
  if (card_has_set())
    for (auto& state : machine) {
      for (auto& count : state.counts) count = Count{};
      state.touched = false;
    }
  lock.unlock();
}

// Last in this file: objects of a file are constructed in their order, and the cards' own list must be there first.
struct FromEnvironment {
  FromEnvironment() {
    pthread_atfork(before_fork, after_fork, in_child);
    const char* text = getenv("FITPROOF_CARDS");
    if (text && *text && card_configure(text) != 0) fprintf(stderr, "FITPROOF_CARDS names no card: %s\n", text);
  }
} from_environment;
}  // namespace
