// The voxels that one atom reaches, walked by a warp in pieces along z. Mirror: pyx/support.pxd.
#pragma once
#include "atoms.cuh"

#define ATOM_BLOCKS (sizeof(real) == 4 ? 20 : 12) // of a multiprocessor: 96 registers a thread, 168 in double precision
#define SECOND_BLOCKS (sizeof(real) == 4 ? 16 : 12) // 128, 168: the second order

enum {
    ATOM_THREADS = 32, // a warp an atom, and a block a warp: what an atom has is the same for all threads
    SUM_THREADS = 256, // one block per sum
    GROUP = 4, // channels accumulated at a time
    VOXELS = 16 / sizeof(real), // of a thread at a time, in a row along z: one 16-byte load or store
    PILE = 96 // pieces of a warp: 32 that are read where none were left, fewer than 32, and 32 more
};

struct Geometry { // packed and checked by gridgrad/kernels/abi.py
    double center[3]; // of the grid, where Atoms has none per example
    double resolution;
    double origin[3]; // voxel 0, relative to the centre
    double radius_scale;
    double core_rate;
    double core_end;
    double cutoff;
    double cutoff_s;
    double tail[4];
    long long points[3];
    long long radius_by_type;
    float singles[SINGLES]; // the numbers from resolution on again
};

struct Scalars { // the numbers of Geometry as reals
    real resolution;
    real origin[3];
    real radius_scale;
    Profile profile;
};

#ifndef GEOMETRY_FIELDS
#error "put what c_text() of gridgrad/kernels/abi.py returns before this text, as gridgrad.kernels.gpu does"
#endif
#ifdef __has_builtin
#if __has_builtin(__builtin_offsetof) // NVRTC 13.0 has none; the host compilers of nvcc and of the tests do
#define GEOMETRY_FIELD(name, offset) static_assert(__builtin_offsetof(Geometry, name) == (offset), "Geometry: " #name);
#define NUMBER_FIELD(name, nth) \
    static_assert(__builtin_offsetof(Scalars, name) == (nth) * sizeof(real), "Scalars: " #name);
#define PROFILE_FIELD(name, nth) \
    static_assert(__builtin_offsetof(Profile, name) == (nth) * sizeof(real), "Profile: " #name);
GEOMETRY_FIELDS
NUMBER_FIELDS
PROFILE_FIELDS
NUMBER_FIELD(profile, PROFILE_BEGIN - NUMBERS_BEGIN)
#endif
#endif
static_assert(sizeof(Geometry) == GEOMETRY_BYTES, "Geometry: size");
static_assert(sizeof(Profile) == PROFILE_REALS * sizeof(real), "Profile: size");
static_assert(sizeof(Scalars) == SINGLES * sizeof(real), "Scalars: size");

__device__ __forceinline__ const Scalars &narrow(const Geometry &grid)
{
    // in the memory of the arguments, whose values are operands: no register, no conversion
    return *(const Scalars *)(sizeof(real) == 4 ? (const void *)grid.singles : (const void *)&grid.resolution);
}

struct alignas(16) Packed { // a 16-byte load or store
    real v[VOXELS];
};

struct Position { // of voxel 0 - r, along three axes, in two parts
    real high[3];
    real low[3];
};

__device__ __forceinline__ void split(Position &position, int axis, double origin, double r)
{
    // both relative to the centre
    const double exact = origin - r;
    position.high[axis] = (real)exact;
    position.low[axis] = (real)(exact - (double)position.high[axis]);
}

__device__ __forceinline__ real delta_of(real high, real low, real voxel, real resolution)
{
    // the same bits in every kernel, and nearly those of double precision
    return real_fma(voxel, resolution, high) + low;
}

__device__ __forceinline__ real delta_of(const Position &position, int axis, real voxel, real resolution)
{
    return delta_of(position.high[axis], position.low[axis], voxel, resolution);
}

__device__ __forceinline__ real square(real xi_x, real xi_y) { return real_fma(xi_y, xi_y, xi_x * xi_x); }

__device__ __forceinline__ real square(real xi_x, real xi_y, real xi_z)
{
    return real_fma(xi_z, xi_z, square(xi_x, xi_y));
}

struct alignas(16) Piece { // VOXELS voxels along z, from a multiple of VOXELS on
    unsigned row; // of the channel; abi.py sees to it that 32 bits do
    int z;
    real xi_x, xi_y;
};

struct alignas(16) Support { // of an atom, in shared memory, of its warp
    Position position;
    real per_radius; // 1 / R
    real reach; // R in voxels
    real before, behind; // z of the atom in voxels, less and more what rounding may take
    int first[3], last[3]; // voxels of the support; last < first: nothing left
};

struct Line { // along z of an atom: what every piece needs, in registers
    real high, low; // of Position
    real per_radius;
};

struct Walk { // of a thread: it has every 32nd row of the support, and puts its pieces on the warp's pile
    int x, y; // its row
    int step_x, step_y; // to its next
    unsigned left; // times that the warp has not yet begun 32 rows
    unsigned row; // of the channel
    int z, last; // of its row: the piece to be put next, and the last voxel
    real xi_x, xi_y; // of its row
    int n; // pieces on the pile
    Piece *top; // of the pile, above the last
};

struct Voxels { // of a piece
    real xi_z[VOXELS];
    real s[VOXELS];
    bool inside[VOXELS]; // the support; what is outside of the grid is read as zero
};

__device__ __forceinline__ void fill(real *target, long long n, real value)
{
    for (long long k = threadIdx.x; target != nullptr && k < n; k += 32)
        target[k] = value;
}

__device__ __forceinline__ real per_radius_of(real radius)
{
    // 1 / R, finite, since an atom may sit on a point: 0 / R is 0; NaN stays
    const real x = 1 / radius;
    return x > REAL_MAX ? REAL_MAX : x;
}

__device__ __forceinline__ int at_most(int voxel, int last)
{
    // last may be larger than its neighbours in single precision
    return voxel < last ? voxel : last;
}

__device__ __forceinline__ bool place(Support &a, const Geometry &grid, const Scalars &scalars, const Atoms &atoms,
                                      const Terms &terms)
{
    // Clip the support of an atom to the grid; a warp does. False: nothing left, or its position is NaN.
    const int axis = threadIdx.x;
    __syncwarp();
    if (axis < 3) {
        // in double precision: far from zero, both have many digits in common
        const double r = (double)atoms.coords[3 * terms.i + axis] - center_of(atoms, grid.center, (int)terms.b, axis);
        const real per_resolution = 1 / scalars.resolution;
        split(a.position, axis, grid.origin[axis], r);
        const real reach = terms.radius * per_resolution;
        const real centre = -a.position.high[axis] * per_resolution;
        // for the rounding, the test of s decides; finite, since infinity - infinity is NaN
        const real slack = real_min((real)0.01 + (real)1e-6 * real_abs(centre), (real)1e6);
        const real before = centre - slack, behind = centre + slack;
        const int end = (int)grid.points[axis] - 1;
        const real lowest = real_max(before - scalars.profile.cutoff * reach, (real)0);
        const real highest = real_min(behind + scalars.profile.cutoff * reach, (real)end);
        const bool any = lowest <= highest && is_finite(centre);
        a.first[axis] = any ? (int)real_ceil(lowest) : 0;
        a.last[axis] = any ? at_most((int)real_floor(highest), end) : -1;
        if (axis == 2) {
            a.before = before;
            a.behind = behind;
        }
        a.per_radius = per_radius_of(terms.radius);
        a.reach = reach;
    }
    __syncwarp();
    return a.first[0] <= a.last[0] && a.first[1] <= a.last[1] && a.first[2] <= a.last[2];
}

__device__ __forceinline__ Walk rewind(const Support &a)
{
    // one step before the first row of this thread, x outermost
    __shared__ Piece pile[PILE];
    const int lane = threadIdx.x, n_y = a.last[1] - a.first[1] + 1;
    // quotients of numbers from 0 to 32: half of one is more than the error
    const float per_n_y = 1 / (float)n_y;
    const int x = (int)(((float)lane + 0.5f) * per_n_y);
    Walk walk = {};
    walk.step_x = (int)(32.5f * per_n_y);
    walk.step_y = 32 - walk.step_x * n_y;
    walk.x = a.first[0] + x - walk.step_x;
    walk.y = a.first[1] + lane - x * n_y - walk.step_y;
    walk.left = (unsigned)(((unsigned long long)(a.last[0] - a.first[0] + 1) * (unsigned)n_y + 31) / 32);
    walk.last = -1;
    walk.top = pile + 32;
    return walk;
}

__device__ __forceinline__ void next_row(Walk &walk, const Support &a, const Geometry &grid, const Scalars &scalars)
{
    // The next row of this thread, as far as it may be nearer than the cutoff.
    --walk.left;
    walk.x += walk.step_x;
    walk.y += walk.step_y;
    if (walk.y > a.last[1]) {
        walk.y -= a.last[1] - a.first[1] + 1;
        ++walk.x;
    }
    walk.row = (unsigned)walk.x * (unsigned)grid.points[1] + (unsigned)walk.y;
    walk.xi_x = delta_of(a.position, 0, (real)walk.x, scalars.resolution) * a.per_radius;
    walk.xi_y = delta_of(a.position, 1, (real)walk.y, scalars.resolution) * a.per_radius;
    const real cutoff_s = scalars.profile.cutoff_s, s_xy = square(walk.xi_x, walk.xi_y);
    // for the rounding; what the difference loses counts most where it is small
    const real left = real_max(cutoff_s - s_xy, 0) + (real)1e-6 * cutoff_s;
    const real extent = left * real_rsqrt(left) * a.reach;
    const int first = (int)real_ceil(real_max(a.before - extent, (real)a.first[2]));
    const int last = (int)real_floor(real_min(a.behind + extent, (real)a.last[2]));
    walk.z = (int)((unsigned)first / VOXELS * VOXELS);
    walk.last = walk.x <= a.last[0] && s_xy <= cutoff_s ? at_most(last, a.last[2]) : -1;
}

__device__ __forceinline__ bool next_piece(Walk &walk, Piece &p, bool &any, const Support &a, const Geometry &grid,
                                           const Scalars &scalars)
{
    // The next piece of this thread, if there is any. False: none left for the warp, which asks together.
    const unsigned below = (1u << threadIdx.x) - 1;
    while (walk.n < 32) {
        const bool puts = walk.z <= walk.last;
        const unsigned votes = __ballot_sync(0xffffffffu, puts);
        if (votes == 0) {
            if (walk.left == 0)
                break;
            next_row(walk, a, grid, scalars);
            continue;
        }
        if (puts) {
            walk.top[__popc(votes & below)] = {walk.row, walk.z, walk.xi_x, walk.xi_y};
            walk.z += VOXELS;
        }
        walk.n += __popc(votes);
        walk.top += __popc(votes);
    }
    if (walk.n <= 0)
        return false;
    __syncwarp();
    walk.n -= 32;
    walk.top -= 32;
    any = walk.n + (int)threadIdx.x >= 0;
    p = walk.top[threadIdx.x];
    __syncwarp();
    return true;
}

__device__ __forceinline__ Line line_of(const Support &a)
{
    return {a.position.high[2], a.position.low[2], a.per_radius};
}

__device__ __forceinline__ Voxels voxels_of(const Piece &p, const Line &line, const Scalars &scalars)
{
    Voxels v;
    const real z = (real)p.z, s_xy = square(p.xi_x, p.xi_y);
#pragma unroll
    for (int l = 0; l < VOXELS; ++l) {
        v.xi_z[l] = delta_of(line.high, line.low, z + l, scalars.resolution) * line.per_radius;
        v.s[l] = real_fma(v.xi_z[l], v.xi_z[l], s_xy);
        v.inside[l] = !(v.s[l] > scalars.profile.cutoff_s);
    }
    return v;
}

__device__ __forceinline__ bool is_aligned(const real *values, const Geometry &grid)
{
    // every piece of (..., X, Y, Z) is one 16-byte load or store
    return ((unsigned)grid.points[2] % VOXELS | (unsigned)(size_t)values % 16) == 0;
}

__device__ __forceinline__ unsigned long long offset_of(const Piece &p, const Geometry &grid)
{
    // in a channel
    return (unsigned long long)p.row * (unsigned)grid.points[2] + (unsigned)p.z;
}

template <bool ALIGNED>
__device__ __forceinline__ void read_at(const real *at, const Piece &p, const Geometry &grid, real (&v)[VOXELS])
{
    // what lies in the grid, else 0; ALIGNED: all of it, in one load
    if (ALIGNED) {
        const Packed packed = *(const Packed *)at;
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            v[l] = packed.v[l];
    } else {
        const int left = (int)grid.points[2] - p.z;
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            v[l] = l < left ? at[l] : (real)0;
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void read_piece(const real *channel, const Piece &p, const Geometry &grid, real (&v)[VOXELS])
{
    read_at<ALIGNED>(channel + offset_of(p, grid), p, grid, v);
}

__device__ __forceinline__ real warp_sum(real v)
{
    // fixed order: by halves; every lane gets it
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

template <int N>
__device__ __forceinline__ real warp_sum(real (&v)[N])
{
    // of v[n], for lanes 32 / N n and on, N a power of two: halves of the warp keep half of them each, and so on
    int offset = 16;
#pragma unroll
    for (int n = N / 2; n > 0; n /= 2, offset /= 2) {
        const bool high = threadIdx.x & offset;
#pragma unroll
        for (int l = 0; l < n; ++l)
            v[l] = (high ? v[l + n] : v[l]) + __shfl_xor_sync(0xffffffffu, high ? v[l] : v[l + n], offset);
    }
#pragma unroll
    for (; offset > 0; offset /= 2)
        v[0] += __shfl_xor_sync(0xffffffffu, v[0], offset);
    return v[0];
}

template <int THREADS, class T, int N>
__device__ __forceinline__ void block_sum(T (&v)[N])
{
    // fixed order: lanes by halves, then warps one after another; every thread gets the sums. Once a kernel, which has
    // no barrier between these reads of partial and another's writes
    __shared__ T partial[N][THREADS / 32];
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int offset = 16; offset > 0; offset /= 2)
            v[n] += __shfl_down_sync(0xffffffffu, v[n], offset);
        if (threadIdx.x % 32 == 0)
            partial[n][threadIdx.x / 32] = v[n];
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < N; ++n) {
        v[n] = partial[n][0];
        for (int warp = 1; warp < THREADS / 32; ++warp)
            v[n] += partial[n][warp];
    }
}
