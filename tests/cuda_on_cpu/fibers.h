// The execution model of CUDA on a CPU: one fiber per CUDA thread, one operating-system thread per running block.
//
// Fibers of a block take turns on one operating-system thread and switch only at barriers, so __shared__ memory is
// thread_local memory. makecontext starts a fiber; _setjmp/_longjmp switch, without system calls. A thread that has
// exited counts as arrived at every barrier, as on sm_70 and later. A barrier that can never be completed aborts.
//
// Between barriers the fibers of a block run in the order that SHIM_SCHEDULE says: forward (default), backward, or a
// number, the seed of random ones, in which some warps run ahead of others, often as far as barriers let them.
#pragma once
#include <algorithm>
#include <atomic>
#include <bit>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <sys/mman.h>
#include <thread>
#include <tuple>
#include <ucontext.h>
#include <vector>

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace shim {

constexpr size_t STACK = (256 << 10) + 64 * 17; // no power of two: the tops of stacks would share few lines of a cache
constexpr unsigned IDLE_ROUNDS = 1000;      // rounds without progress that mean deadlock
constexpr unsigned PATIENCE[] = {8, 8192};  // rounds, on average, after which other warps run: by the seed

struct WarpBarrier { uint32_t arrived = 0, generation = 0; };

struct Warp {
    uint32_t live = 0;
    WarpBarrier barriers[32];               // keyed by the lowest lane of the mask
    alignas(16) unsigned char slot[2][32][16];
};

struct Fiber {
    jmp_buf state;
    uint3 index;
    unsigned number, lane;
    Warp *warp;
    bool started = false, done = false;
    uint32_t parity = 0;                    // which of the warp's two exchange buffers comes next
};

struct Random {                             // splitmix64
    uint64_t state;
    uint64_t operator()()
    {
        uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    using result_type = uint64_t;
    static constexpr uint64_t min() { return 0; }
    static constexpr uint64_t max() { return ~uint64_t(0); }
};

struct Schedule {
    enum { FORWARD, BACKWARD, RANDOM } kind = FORWARD;
    uint64_t seed = 0;
};

struct Worker {                             // an operating-system thread and the block it runs
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<unsigned> round;            // the fibers that run next, in their order
    std::vector<bool> runs;                 // the warps that they are of
    Schedule schedule;
    std::function<void()> body;
    jmp_buf scheduler;
    ucontext_t start;
    char *stacks = nullptr;
    unsigned live = 0, arrived = 0, generation = 0, progress = 0;
};

inline thread_local Worker *worker = nullptr;
inline thread_local Fiber *current = nullptr;
inline thread_local uint3 block_index;
inline thread_local dim3 block_size, grid_size;

[[noreturn]] inline void fail(const char *what)
{
    fprintf(stderr, "shim: %s\n", what);
    abort();
}

__attribute__((noinline)) inline void yield()
{
    if (!_setjmp(current->state))
        _longjmp(worker->scheduler, 1);
}

inline void release_block()
{
    if (worker->live && worker->arrived >= worker->live) {
        worker->arrived = 0;
        ++worker->generation;
        ++worker->progress;
    }
}

inline void sync_block()
{
    const unsigned generation = worker->generation;
    ++worker->arrived;
    release_block();
    while (worker->generation == generation)
        yield();
}

inline void release_warp(Warp *warp, WarpBarrier &barrier, uint32_t mask)
{
    const uint32_t needed = mask & warp->live;
    if (needed && (barrier.arrived & needed) == needed) {
        barrier.arrived = 0;
        ++barrier.generation;
        ++worker->progress;
    }
}

inline void sync_warp(uint32_t mask)
{
    Fiber *fiber = current;
    WarpBarrier &barrier = fiber->warp->barriers[std::countr_zero(mask)];
    if (!(mask >> fiber->lane & 1))
        fail("a lane calls a warp function whose mask leaves it out");
    const uint32_t generation = barrier.generation;
    barrier.arrived |= 1u << fiber->lane;
    release_warp(fiber->warp, barrier, mask);
    while (barrier.generation == generation) {
        yield();
        if (barrier.generation == generation)
            release_warp(fiber->warp, barrier, mask);
    }
}

template <class T>
T exchange(uint32_t mask, T value, unsigned source)
{
    // double buffered, so that one barrier does
    static_assert(sizeof(T) <= 16);
    const unsigned parity = current->parity ^= 1;
    auto *slots = current->warp->slot[parity];
    memcpy(slots[current->lane], &value, sizeof value);
    sync_warp(mask);
    memcpy(&value, slots[source & 31], sizeof value);
    return value;
}

inline unsigned ballot(uint32_t mask, bool vote)
{
    const unsigned parity = current->parity ^= 1;
    auto *slots = current->warp->slot[parity];
    const uint32_t voters = mask & current->warp->live;
    unsigned votes = 0;
    slots[current->lane][0] = vote;
    sync_warp(mask);
    for (unsigned lane = 0; lane < 32; ++lane)
        if (voters >> lane & 1)
            votes |= unsigned(slots[lane][0]) << lane;
    return votes;
}

inline void run_fiber()
{
    for (;;) {                              // started once, used again for every block
        worker->body();
        current->done = true;
        current->warp->live &= ~(1u << current->lane);
        --worker->live;
        release_block();
        yield();
    }
}

inline void resume(Worker &w, Fiber &fiber)
{
    current = &fiber;
    if (_setjmp(w.scheduler))
        return;
    if (fiber.started)
        _longjmp(fiber.state, 1);
    fiber.started = true;
    getcontext(&w.start);
    w.start.uc_link = nullptr;
    w.start.uc_stack.ss_sp = w.stacks + fiber.number * STACK;
    w.start.uc_stack.ss_size = STACK;
    makecontext(&w.start, run_fiber, 0);
    setcontext(&w.start);
}

inline Schedule schedule_asked()
{
    const char *setting = getenv("SHIM_SCHEDULE");
    if (!setting || !strcmp(setting, "forward"))
        return {};
    if (!strcmp(setting, "backward"))
        return {Schedule::BACKWARD};
    char *end;
    const uint64_t seed = strtoull(setting, &end, 10);
    if (end == setting || *end)
        fail("SHIM_SCHEDULE: expected forward, backward or a number");
    return {Schedule::RANDOM, seed};
}

inline void next_round(Worker &w, Random &random, bool stuck)
{
    const unsigned threads = w.fibers.size();
    w.round.resize(threads);
    std::iota(w.round.begin(), w.round.end(), 0);
    if (w.schedule.kind == Schedule::BACKWARD)
        std::reverse(w.round.begin(), w.round.end());
    if (w.schedule.kind != Schedule::RANDOM)
        return;
    if (stuck || random() % PATIENCE[w.schedule.seed % 2] == 0) {
        w.runs.assign(w.warps.size(), false);
        const unsigned some = 1 + random() % w.warps.size();
        for (unsigned i = 0; i < some; ++i)
            w.runs[random() % w.warps.size()] = true;
    }
    std::erase_if(w.round, [&](unsigned fiber) { return !w.runs[fiber / 32]; });
    std::shuffle(w.round.begin(), w.round.end(), random);
}

inline void run_block(Worker &w, uint3 index)
{
    Random random{w.schedule.seed + (uint64_t(index.z) << 42) + (uint64_t(index.y) << 21) + index.x};
    block_index = index;
    w.live = w.fibers.size();
    w.arrived = 0;
    for (Warp &warp : w.warps) {
        warp.live = 0;
        for (WarpBarrier &barrier : warp.barriers)
            barrier.arrived = 0;
    }
    for (Fiber &fiber : w.fibers) {
        fiber.done = false;
        fiber.parity = 0;
        fiber.warp->live |= 1u << fiber.lane;
    }
    for (unsigned idle = 1; w.live;) {
        const unsigned live = w.live, progress = w.progress;
        next_round(w, random, idle > 0);
        for (unsigned number : w.round)
            if (!w.fibers[number].done)
                resume(w, w.fibers[number]);
        idle = live == w.live && progress == w.progress ? idle + 1 : 0;
        if (idle > IDLE_ROUNDS)
            fail("deadlock: some threads of a block never reach a barrier");
    }
}

struct Stacks {                             // of an operating-system thread, from launch to launch
    char *memory = nullptr;
    unsigned threads = 0;
    ~Stacks() { munmap(memory, threads * STACK); }
    char *of(unsigned needed)
    {
        if (needed <= threads)
            return memory;
        munmap(memory, threads * STACK);
        memory = (char *)mmap(nullptr, needed * STACK, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            fail("no memory for stacks");
        threads = needed;
        return memory;
    }
};

inline thread_local Stacks stacks;

inline void launch(dim3 grid, dim3 block, const std::function<void()> &body)
{
    const unsigned threads = block.x * block.y * block.z;
    const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    const char *setting = getenv("SHIM_THREADS");
    const unsigned workers = setting ? atoi(setting) : std::thread::hardware_concurrency();
    const Schedule schedule = schedule_asked();
    std::atomic<uint64_t> next{0};
    auto work = [&] {
        Worker w;
        w.body = body;
        w.schedule = schedule;
        w.fibers.resize(threads);
        w.warps.resize((threads + 31) / 32);
        w.stacks = stacks.of(threads);
        worker = &w;
        block_size = block;
        grid_size = grid;
        for (unsigned i = 0; i < threads; ++i) {
            Fiber &fiber = w.fibers[i];
            fiber.number = i;
            fiber.lane = i % 32;
            fiber.warp = &w.warps[i / 32];
            fiber.index = {i % block.x, i / block.x % block.y, i / (block.x * block.y)};
        }
        for (uint64_t b; (b = next++) < blocks;)
            run_block(w, {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / (uint64_t(grid.x) * grid.y))});
        worker = nullptr;
    };
    std::vector<std::thread> others;
    for (unsigned i = 1; i < std::min<uint64_t>(workers, blocks); ++i)
        others.emplace_back(work);
    work();
    for (std::thread &thread : others)
        thread.join();
}

template <class... Arguments>
void launch_packed(void (*kernel)(Arguments...), const unsigned *grid, const unsigned *block, const char *buffer,
                   size_t bytes)
{
    // arguments packed as for CU_LAUNCH_PARAM_BUFFER_POINTER: in order, each at its natural alignment
    size_t offset = 0;
    std::tuple<Arguments...> arguments;
    auto read = [&](auto &argument) {
        offset = (offset + alignof(decltype(argument)) - 1) / alignof(decltype(argument)) * alignof(decltype(argument));
        if (offset + sizeof argument > bytes)
            fail("the argument buffer is shorter than the kernel's arguments");
        memcpy((void *)&argument, buffer + offset, sizeof argument);
        offset += sizeof argument;
    };
    std::apply([&](auto &...argument) { (read(argument), ...); }, arguments);
    if (offset != bytes)
        fail("the argument buffer is longer than the kernel's arguments");
    launch({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, [&] { std::apply(kernel, arguments); });
}

}  // namespace shim
