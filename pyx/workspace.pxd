# Scratch memory, one of each thread; calls leave theirs to the next ones.

from libc.math cimport sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from profile cimport real
from support cimport CHUNKS, Geometry, LANES, Support, narrow

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #include <unistd.h>
    #endif
    /* A fresh output is paid for page by page at its first touch: ask for 2 MiB pages where the kernel offers them. */
    static inline void advise_huge_pages(void* p, size_t n) {
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
        uintptr_t page = (uintptr_t)2 << 20;
        uintptr_t begin = ((uintptr_t)p + page - 1) / page * page, end = ((uintptr_t)p + n) / page * page;
        if (begin < end) madvise((void*)begin, end - begin, MADV_HUGEPAGE);
    #else
        (void)p; (void)n;
    #endif
    }
    /* Whether a large output was written before: the system has given it pages; it is enough to ask in its middle. */
    static inline int has_pages(void* p, size_t n) {
    #if defined(__linux__)
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), middle = ((uintptr_t)p + n / 2) / page * page;
        unsigned char present = 1;
        return mincore((void*)middle, 1, &present) != 0 || (present & 1);
    #else
        (void)p; (void)n;
        return 1;
    #endif
    }
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    /* Copy past the caches, line by line; what a cache does not hold would be read into it before it is written. */
    static inline void stream(void* target, const void* source, size_t n) {
    #if defined(__SSE2__)
        char* to = (char*)target;
        const char* from = (const char*)source;
        size_t head = -(uintptr_t)to & 63;
        head = head < n ? head : n;
        memcpy(to, from, head);
        for (to += head, from += head, n -= head; n >= 64; to += 64, from += 64, n -= 64)
            for (int i = 0; i < 64; i += 16)
                _mm_stream_si128((__m128i*)(to + i), _mm_loadu_si128((const __m128i*)(from + i)));
        memcpy(to, from, n);
    #else
        memcpy(target, source, n);
    #endif
    }
    /* Workspaces that no call uses. No lock: the process may be forked at any time, the child finds some of them. */
    enum { SPARES = 256 };
    static void* spares[SPARES];
    static inline void* take_spare(void) {
        for (int i = 0; i < SPARES; i++) {
            void* space = __atomic_load_n(&spares[i], __ATOMIC_RELAXED);
            if (space && (space = __atomic_exchange_n(&spares[i], NULL, __ATOMIC_ACQUIRE))) return space;
        }
        return NULL;
    }
    static inline int keep_spare(void* space) {
        for (int i = 0; i < SPARES; i++) {
            void* none = NULL;
            if (!__atomic_load_n(&spares[i], __ATOMIC_RELAXED)
                && __atomic_compare_exchange_n(&spares[i], &none, space, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
                return 1;
        }
        return 0;
    }
    /* before other threads read it */
    static inline void end_stream(void) {
    #if defined(__SSE2__)
        _mm_sfence();
    #endif
    }
    """
    void advise_huge_pages(void* p, size_t n) nogil
    bint has_pages(void* p, size_t n) nogil
    void stream(void* target, const void* source, size_t n) nogil
    void end_stream() nogil
    void* take_spare() nogil
    bint keep_spare(void* space) nogil


cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void** target, size_t alignment, size_t size)

cdef enum:
    LINE = 64                       # bytes of a cache line
    TABLE_BYTES = 1 << 20           # of tables that are kept; they are as long as the axes of the grid
    BLOCK = (CHUNKS + 1) * LANES    # lanes of a block, and one chunk so that arrays are not 4096 bytes apart


cdef struct Workspace:      # aligned to LINE
    real phi[BLOCK]
    real phi_s[BLOCK]
    real phi_ss[BLOCK]
    real phi_u[BLOCK]
    real phi_v[BLOCK]
    real phi_uv[BLOCK]
    real grad_w[BLOCK]      # sum_k w_k G_k
    real grad_v[BLOCK]      # R sum_k v_wk G_k
    real R_s_v[BLOCK]       # of the second order, and s: 0 outside of the support
    real s[BLOCK]
    size_t table_bytes      # that support.table has
    real* window            # zero between items; see to_grid.pxd
    void* planes            # see planes.pxd
    size_t planes_bytes
    Support support


cdef inline void close_workspace(Workspace* space) noexcept nogil:
    free(space.window)
    space.window = NULL
    if space.table_bytes > TABLE_BYTES:
        free(space.support.table)
        space.support.table = NULL
        space.table_bytes = 0
    if space.planes_bytes > TABLE_BYTES:
        free(space.planes)
        space.planes = NULL
        space.planes_bytes = 0
    if not keep_spare(space):
        free(space.planes)
        free(space.support.table)
        free(space)


cdef inline void close_workspaces(Workspace** spaces, int n) noexcept nogil:
    cdef int i
    if spaces != NULL:
        for i in range(n):
            if spaces[i] != NULL:
                close_workspace(spaces[i])
        free(spaces)


cdef inline bint reserve_tables(Workspace* space, size_t n_bytes) noexcept nogil:
    if space.table_bytes < n_bytes:
        free(space.support.table)
        space.support.table = NULL
        space.table_bytes = 0
        if posix_memalign(<void**>&space.support.table, LINE, n_bytes) != 0:
            return False
        space.table_bytes = n_bytes
    return True


cdef inline Workspace* open_workspace(const Geometry* grid, long long window_size) noexcept nogil:
    cdef long long padded[3]
    cdef long long total = 0
    cdef int axis
    cdef real* next_table
    cdef Support* a
    cdef Workspace* space = <Workspace*>take_spare()
    if space == NULL:
        if posix_memalign(<void**>&space, LINE, sizeof(Workspace)) != 0:
            return NULL
        space.support.table = NULL
        space.table_bytes = 0
        space.planes = NULL
        space.planes_bytes = 0
    space.window = NULL
    a = &space.support
    a.grid = grid[0]
    narrow(&a.profile, grid)
    a.cutoff_u = sqrt(grid.cutoff_s)
    a.x_store = 0
    a.rows = grid.points[1]
    a.n_lanes = <int>min(<long long>LANES, grid.points[2])
    for axis in range(3):
        padded[axis] = (grid.points[axis] + LANES - 1) // LANES * LANES
        total += 3 * padded[axis]
    # the tables, then one y_start per row, one z_start and one s_min per chunk along z
    if not reserve_tables(space, total * sizeof(real) + (padded[1] + LANES) * sizeof(long long)
                          + padded[2] // LANES * (sizeof(long long) + sizeof(real))):
        close_workspace(space)
        return NULL
    if window_size > 0:
        if posix_memalign(<void**>&space.window, LINE, window_size * sizeof(real)) != 0:
            space.window = NULL
            close_workspace(space)
            return NULL
        advise_huge_pages(space.window, window_size * sizeof(real))
        memset(space.window, 0, window_size * sizeof(real))
    a.y_start = <long long*>(a.table + total)
    a.z_start = a.y_start + padded[1] + LANES   # of which next_rows reads LANES at a time
    a.s_min = <real*>(a.z_start + padded[2] // LANES)
    next_table = a.table
    for axis in range(3):
        a.xi[axis] = next_table
        a.s[axis] = next_table + padded[axis]
        a.core[axis] = next_table + 2 * padded[axis]
        next_table += 3 * padded[axis]
    return space


cdef inline Workspace** open_workspaces(const Geometry* grid, int n, long long window_size) noexcept nogil:
    # one per thread, each with a window of that many voxels; NULL when memory is short
    cdef int i
    cdef Workspace** spaces = <Workspace**>malloc(n * sizeof(Workspace*))
    if spaces == NULL:
        return NULL
    for i in range(n):
        spaces[i] = NULL
    for i in range(n):
        spaces[i] = open_workspace(grid, window_size)
        if spaces[i] == NULL:
            close_workspaces(spaces, n)
            return NULL
    return spaces
