#pragma once

#include <cstdint>
#include <functional>

namespace mixpriv {

// How many workers parallel_for will use: at most one per `grain` items.
int worker_count(int64_t count, int64_t grain, int threads);

// Calls body(begin, end, worker) for ranges that cover [0, count) once; every range but the last is a multiple of
// `grain` long. Which worker gets which range is not fixed, so a body must give the same result for any split.
// The body must not throw.
void parallel_for(int64_t count, int64_t grain, int threads,
                  const std::function<void(int64_t begin, int64_t end, int worker)>& body);

}  // namespace mixpriv
