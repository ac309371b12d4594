# Scratch memory, one of each thread.

from libc.math cimport sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from profile cimport real
from support cimport CHUNKS, Geometry, LANES, Support, narrow

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
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
    /* before other threads read it */
    static inline void end_stream(void) {
    #if defined(__SSE2__)
        _mm_sfence();
    #endif
    }
    """
    void advise_huge_pages(void* p, size_t n) nogil
    void stream(void* target, const void* source, size_t n) nogil
    void end_stream() nogil


cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void** target, size_t alignment, size_t size)

cdef enum:
    LINE = 64                       # bytes of a cache line
    BLOCK = (CHUNKS + 1) * LANES    # lanes of a block, and one chunk so that arrays are not 4096 bytes apart


cdef struct Workspace:      # aligned to LINE
    real phi[BLOCK]
    real phi_s[BLOCK]
    real phi_u[BLOCK]
    real phi_v[BLOCK]
    real phi_uv[BLOCK]
    real grad_w[BLOCK]      # sum_k w_k G_k
    real grad_v[BLOCK]      # R sum_k v_wk G_k
    real by_xi[BLOCK]       # what second_order adds up, see fill_second_order
    real by_v[BLOCK]
    real by_radius[BLOCK]
    real* window            # zero between items; see to_grid.pxd
    Support support


cdef inline void close_workspaces(Workspace** spaces, int n) noexcept nogil:
    cdef int i
    if spaces != NULL:
        for i in range(n):
            if spaces[i] != NULL:
                free(spaces[i].support.table)
                free(spaces[i].window)
                free(spaces[i])
        free(spaces)


cdef inline Workspace* open_workspace(const Geometry* grid, long long window) noexcept nogil:
    cdef long long padded[3]
    cdef long long total = 0
    cdef int axis
    cdef real* next_table
    cdef Workspace* space = NULL
    cdef Support* a
    if posix_memalign(<void**>&space, LINE, sizeof(Workspace)) != 0:
        return NULL
    a = &space.support
    a.grid = grid[0]
    narrow(&a.profile, grid)
    a.reach = sqrt(grid.cutoff_s)
    a.x_store = 0
    a.rows = grid.points[1]
    a.n_lanes = <int>min(<long long>LANES, grid.points[2])
    for axis in range(3):
        padded[axis] = (grid.points[axis] + LANES - 1) // LANES * LANES
        total += 3 * padded[axis]
    # the tables, then one y_start per row, one z_start and one s_min per chunk along z
    if posix_memalign(<void**>&a.table, LINE,
                      total * sizeof(real) + padded[1] * sizeof(long long)
                      + padded[2] // LANES * (sizeof(long long) + sizeof(real))) != 0:
        free(space)
        return NULL
    space.window = NULL
    if window > 0:
        if posix_memalign(<void**>&space.window, LINE, window * sizeof(real)) != 0:
            free(a.table)
            free(space)
            return NULL
        advise_huge_pages(space.window, window * sizeof(real))
        memset(space.window, 0, window * sizeof(real))
    a.y_start = <long long*>(a.table + total)
    a.z_start = a.y_start + padded[1]
    a.s_min = <real*>(a.z_start + padded[2] // LANES)
    next_table = a.table
    for axis in range(3):
        a.xi[axis] = next_table
        a.s[axis] = next_table + padded[axis]
        a.core[axis] = next_table + 2 * padded[axis]
        next_table += 3 * padded[axis]
    return space


cdef inline Workspace** open_workspaces(const Geometry* grid, int n, long long window) noexcept nogil:
    # one per thread, each with a window of so many voxels; NULL when memory is short
    cdef int i
    cdef Workspace** spaces = <Workspace**>malloc(n * sizeof(Workspace*))
    if spaces == NULL:
        return NULL
    for i in range(n):
        spaces[i] = NULL
    for i in range(n):
        spaces[i] = open_workspace(grid, window)
        if spaces[i] == NULL:
            close_workspaces(spaces, n)
            return NULL
    return spaces
