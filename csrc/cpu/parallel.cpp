#include "mixpriv/parallel.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace mixpriv {
namespace {

constexpr int64_t ranges_per_worker = 8;  // cores are shared with others: a late worker must not hold up the rest

int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

}  // namespace

int worker_count(int64_t count, int64_t grain, int threads) {
    return static_cast<int>(std::clamp<int64_t>(ceil_div(count, grain), 1, std::max(threads, 1)));
}

void parallel_for(int64_t count, int64_t grain, int threads,
                  const std::function<void(int64_t begin, int64_t end, int worker)>& body) {
    const int workers = worker_count(count, grain, threads);
    if (workers == 1) {
        body(0, count, 0);
        return;
    }
    const int64_t length = grain * ceil_div(ceil_div(count, grain), workers * ranges_per_worker);
    std::atomic<int64_t> next{0};
    const auto work = [&](int worker) {
        for (int64_t begin = next.fetch_add(length); begin < count; begin = next.fetch_add(length))
            body(begin, std::min(begin + length, count), worker);
    };
    std::vector<std::thread> others;
    others.reserve(static_cast<size_t>(workers - 1));
    try {
        for (int worker = 1; worker < workers; ++worker) others.emplace_back(work, worker);
    } catch (const std::system_error&) {
        // no more threads to be had: those that run, and this one, do all the work
    }
    work(0);
    for (std::thread& thread : others) thread.join();
}

}  // namespace mixpriv
