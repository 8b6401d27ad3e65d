// Work that the host has given to a card, and how much of it is done.
//
// A card works through each stream in order, and in training the host gives work faster than a card does it. So what was
// given counts as done no sooner than something says so: the host waits for a stream, an event or the card; a stream has
// more waiting than its queue holds; or an event is queried again and again. A real card may be ahead of that,
// never behind. torch's allocator asks: a block that another stream used (record_stream) comes back when the event that
// was recorded as it was freed is done, and until then reserved memory grows instead. FITPROOF_STREAMS=at-once plays the
// other end, a card that is never behind.
#include "card.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

// What a stream takes before a launch waits for the card. Not documented; measured: the first thousand launches return
// at once, for each stream (stackoverflow.com/questions/53970187).
constexpr uint64_t QUEUE = 1024;
// How often an event is asked for, with nothing given to any stream in between, before the caller counts as waiting for it.
// The allocator asks once for each block that it hands out, and only a few are taken between two launches.
constexpr unsigned PATIENCE = 64;

struct Stream;
using Position = std::pair<std::shared_ptr<Stream>, uint64_t>;

struct Stream {
  int device;
  uint64_t given = 0, done = 0;
  std::deque<std::pair<uint64_t, Position>> waits;  // at this position, for that one of another stream
};

struct Mark {
  Position position;
  unsigned asked = 0;
  uint64_t given_then = 0;
};

bool at_once() {
  static const char* asked = getenv("FITPROOF_STREAMS");
  return asked && !strcmp(asked, "at-once");
}

std::mutex lock;
std::unordered_map<void*, std::shared_ptr<Stream>> streams;
std::unordered_map<int, std::shared_ptr<Stream>> defaults;  // a card's own stream, which a null handle names
uint64_t given_in_all = 0;

std::shared_ptr<Stream> stream_of(void* handle) {
  auto found = streams.find(handle);
  if (found != streams.end()) return found->second;
  auto& stream = defaults[card_current()];
  if (!stream) stream = std::make_shared<Stream>(Stream{card_current(), 0, 0, {}});
  return stream;
}

// A loop, not a recursion: streams wait for each other thousands of times.
void reach(Position target) {
  std::vector<Position> open{std::move(target)};
  while (!open.empty()) {
    auto [stream, position] = std::move(open.back());
    open.pop_back();
    if (stream->done >= position) continue;
    stream->done = position;
    for (; !stream->waits.empty() && stream->waits.front().first <= position; stream->waits.pop_front())
      open.push_back(std::move(stream->waits.front().second));
  }
}

void give(Stream& stream) {
  given_in_all++;
  stream.given++;
}

void reach_all(int device) {
  for (auto& [_, stream] : streams)
    if (stream->device == device) reach({stream, stream->given});
  auto own = defaults.find(device);
  if (own != defaults.end()) reach({own->second, own->second->given});
}

void before_fork() { lock.lock(); }
void after_fork() { lock.unlock(); }
const int watching_forks = pthread_atfork(before_fork, after_fork, after_fork);

}  // namespace

CARD_API void work_stream(void* handle) {
  std::lock_guard<std::mutex> guard(lock);
  streams[handle] = std::make_shared<Stream>(Stream{card_current(), 0, 0, {}});
}
CARD_API void work_stream_gone(void* handle) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = streams.find(handle);
  if (found == streams.end()) return;
  reach({found->second, found->second->given});
  streams.erase(found);
}
CARD_API void work_give(void* handle) {
  std::lock_guard<std::mutex> guard(lock);
  auto stream = stream_of(handle);
  give(*stream);
  if (stream->given - stream->done > QUEUE) reach({stream, stream->given - QUEUE});
}
CARD_API void work_finish_stream(void* handle) {
  std::lock_guard<std::mutex> guard(lock);
  auto stream = stream_of(handle);
  reach({stream, stream->given});
}
CARD_API bool work_stream_is_done(void* handle) {
  std::lock_guard<std::mutex> guard(lock);
  auto stream = stream_of(handle);
  return at_once() || stream->done >= stream->given;
}
CARD_API void work_finish_card() {
  std::lock_guard<std::mutex> guard(lock);
  reach_all(card_current());
}

CARD_API void* work_mark(void* mark, void* handle) {
  std::lock_guard<std::mutex> guard(lock);
  auto stream = stream_of(handle);
  auto* made = mark ? (Mark*)mark : new Mark;
  *made = {{stream, stream->given}, 0, 0};
  return made;
}
CARD_API void work_unmark(void* mark) { delete (Mark*)mark; }
CARD_API bool work_is_done(void* handle) {
  std::lock_guard<std::mutex> guard(lock);
  auto* mark = (Mark*)handle;
  if (!mark || at_once() || mark->position.first->done >= mark->position.second) return true;
  mark->asked = mark->given_then == given_in_all ? mark->asked + 1 : 1;
  mark->given_then = given_in_all;
  if (mark->asked < PATIENCE) return false;
  reach(mark->position);
  return true;
}
CARD_API void work_finish(void* mark) {
  std::lock_guard<std::mutex> guard(lock);
  if (mark) reach(((Mark*)mark)->position);
}
CARD_API void work_wait(void* handle, void* mark) {
  std::lock_guard<std::mutex> guard(lock);
  auto stream = stream_of(handle);
  if (!mark || ((Mark*)mark)->position.first == stream) return;
  give(*stream);
  stream->waits.emplace_back(stream->given, ((Mark*)mark)->position);
}
