# Ctrl-C in the middle of a call: the thread that made it asks Python now and then, the others look at what it heard.

from cython.parallel cimport threadid

cdef extern from *:
    """
    #include <time.h>
    #ifndef CLOCK_MONOTONIC_COARSE
    #define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
    #endif
    #define SECONDS_BETWEEN 0.05    /* during which Python is not asked: it takes the GIL */
    static inline double seconds(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }
    static inline int is_told(const int* told) { return __atomic_load_n(told, __ATOMIC_RELAXED); }
    static inline void tell(int* told) { __atomic_store_n(told, 1, __ATOMIC_RELAXED); }
    """
    const double SECONDS_BETWEEN
    double seconds() nogil
    bint is_told(const int* told) nogil
    void tell(int* told) nogil

cdef extern from "Python.h":
    int PyErr_CheckSignals()

cdef enum:
    VISITS = 8      # of atoms between two looks at the clock
    APART = 64      # bytes of a cache line: what the calling thread writes at each visit is in none that all read


cdef struct Interrupt:
    int visits          # of the calling thread since it looked at the clock
    double asked        # when Python was asked, in seconds
    char before[APART]
    int told            # by the calling thread to all: a signal's handler has raised, its exception is set
    char after[APART]


cdef inline Interrupt listen() noexcept nogil:
    cdef Interrupt interrupt
    interrupt.told = 0
    interrupt.visits = 0
    interrupt.asked = seconds()
    return interrupt


cdef inline int ask() noexcept with gil:
    return PyErr_CheckSignals()


cdef inline bint interrupted(Interrupt* interrupt, int visits) noexcept nogil:
    # before work worth so many visits of atoms; outside the main thread of Python nobody is ever told
    cdef double now
    if threadid() == 0:
        interrupt.visits += visits
        if interrupt.visits >= VISITS:
            interrupt.visits = 0
            now = seconds()
            if now - interrupt.asked > SECONDS_BETWEEN:
                if not is_told(&interrupt.told) and ask() != 0:
                    tell(&interrupt.told)
                interrupt.asked = seconds()
    return is_told(&interrupt.told)
