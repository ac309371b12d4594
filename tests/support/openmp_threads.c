/* OpenMP as far as the kernels call it, on threads that ThreadSanitizer and Helgrind know; torch's they do not know.
 *
 * The chunks of a loop come in another order each time, and threads stand still between them. Nothing but the start and
 * the end of a team, and a barrier, puts what one thread does before what another does: chunks are counted by relaxed
 * atomics. OPENMP_SEED draws orders and pauses. OPENMP_FAULT makes races on purpose, which a detector has to see:
 * "chunk" gives a chunk out once more, "number" gives all threads the number of one. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 64 };

typedef struct {
    void (*work)(void*);
    void* data;
    unsigned seed;
    long given; /* chunks of the loop */
    pthread_barrier_t barrier;
} Team;

typedef struct {
    Team* team;
    int number;
    unsigned random;
    long start, end, step, chunk, n_chunks;
} Member;

static _Thread_local Member me;
static unsigned n_teams;

static bool fault(const char* name) {
    const char* asked = getenv("OPENMP_FAULT");
    return asked && !strcmp(asked, name);
}

static unsigned draw(unsigned* random) { return *random = *random * 1664525u + 1013904223u; }

static void stand_still(void) {
    struct timespec pause = {0, draw(&me.random) >> 16};
    if (draw(&me.random) >> 30 == 0) nanosleep(&pause, NULL);
}

static void* run(void* member) {
    me = *(Member*)member;
    stand_still();
    me.team->work(me.team->data);
    return NULL;
}

int omp_get_thread_num(void) { return fault("number") ? 0 : me.number; }
int omp_get_max_threads(void) { return getenv("OMP_NUM_THREADS") ? atoi(getenv("OMP_NUM_THREADS")) : 2; }

void GOMP_parallel(void (*work)(void*), void* data, unsigned n, unsigned flags) {
    (void)flags;
    if (n == 0) n = omp_get_max_threads();
    if (n > MOST) abort();
    const char* seed = getenv("OPENMP_SEED");
    Team team = {.work = work, .data = data, .seed = (seed ? atoi(seed) : 0) + 7919u * n_teams++};
    pthread_barrier_init(&team.barrier, NULL, n);
    Member members[MOST], outside = me;
    pthread_t threads[MOST];
    for (unsigned i = 0; i < n; i++) members[i] = (Member){.team = &team, .number = i, .random = team.seed + 31u * i};
    for (unsigned i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, run, &members[i])) abort();
    run(&members[0]);
    for (unsigned i = 1; i < n; i++) pthread_join(threads[i], NULL);
    me = outside;
    pthread_barrier_destroy(&team.barrier);
}

void GOMP_barrier(void) { pthread_barrier_wait(&me.team->barrier); }
void GOMP_loop_end_nowait(void) {}

static bool next(long* begin, long* end) {
    long extra = fault("chunk") && me.n_chunks > 0;
    long i = __atomic_fetch_add(&me.team->given, 1, __ATOMIC_RELAXED);
    stand_still();
    if (i >= me.n_chunks + extra) return false;
    unsigned order = me.team->seed;
    draw(&order);
    if (order & 1) i = me.n_chunks - 1 - i % me.n_chunks; /* back to front */
    i = (i % me.n_chunks + (order >> 8) % me.n_chunks) % me.n_chunks;
    *begin = me.start + i * me.chunk * me.step;
    *end = *begin + me.chunk * me.step;
    if ((me.step > 0) == (*end > me.end)) *end = me.end;
    return true;
}

/* the only loop of its region: none of the kernels has another */
bool GOMP_loop_dynamic_start(long start, long end, long step, long chunk, long* begin, long* stop) {
    me.start = start, me.end = end, me.step = step, me.chunk = chunk;
    long span = (step > 0 ? end - start : start - end), size = chunk * labs(step);
    me.n_chunks = span > 0 ? (span + size - 1) / size : 0;
    return next(begin, stop);
}
bool GOMP_loop_dynamic_next(long* begin, long* stop) { return next(begin, stop); }

/* the names that newer compilers use */
bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long step, long chunk, long* begin, long* stop) {
    return GOMP_loop_dynamic_start(start, end, step, chunk, begin, stop);
}
bool GOMP_loop_nonmonotonic_dynamic_next(long* begin, long* stop) { return next(begin, stop); }
