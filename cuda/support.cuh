// The voxels that one atom reaches, walked by a block with its lanes along z. Mirror: pyx/support.pxd.
#pragma once
#include "atoms.cuh"

#define ATOM_BLOCKS (sizeof(real) == 4 ? 20 : 12) // of a multiprocessor: 96 registers a thread, 168 in double precision
#define SECOND_BLOCKS (sizeof(real) == 4 ? 16 : 12) // 128, 168: the second order

enum {
    ATOM_THREADS = 32, // a warp an atom, and a block a warp: what an atom has is the same for all threads
    SUM_THREADS = 256, // one block per sum
    GROUP = 4, // channels accumulated at a time
    VOXELS = 16 / sizeof(real), // of a thread at a time, in a row along z: one 16-byte load or store
    RING = 128 // pieces of a warp: 32 being read, fewer than 32 left over, 32 being written
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

__device__ __forceinline__ real delta_of(const Position &position, int axis, real voxel, real resolution)
{
    // the same bits in every kernel, and nearly those of double precision
    return real_fma(voxel, resolution, position.high[axis]) + position.low[axis];
}

__device__ __forceinline__ real square(real xi_x, real xi_y) { return real_fma(xi_y, xi_y, xi_x * xi_x); }

__device__ __forceinline__ real square(real xi_x, real xi_y, real xi_z)
{
    return real_fma(xi_z, xi_z, square(xi_x, xi_y));
}

struct Piece { // VOXELS voxels along z, from a multiple of VOXELS on
    unsigned row; // of the channel; abi.py sees to it that 32 bits do
    int z;
    real xi_x, xi_y;
};

struct Support { // in shared memory, of a warp
    Position position; // of the atom
    real per_radius; // 1 / R
    real reach; // R in voxels
    int first[3]; // first voxel of the support
    int count[3]; // voxels of the support; 0: nothing left
    alignas(16) Piece ring[RING];
};

struct Walk { // of a thread: it has every 32nd row of the support, and puts its pieces into the ring
    int step_x, step_y; // from a row of this thread to its next
    int x, y; // of its row in the support
    int z, end; // of its row: the piece to be put next, and where there are no more
    real xi_x, xi_y; // of its row
    unsigned put, taken; // by the warp
};

struct Voxels { // of a piece
    real xi_z[VOXELS];
    real s[VOXELS];
    bool inside[VOXELS]; // the support and the grid
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

__device__ __forceinline__ bool place(Support &a, const Geometry &grid, const Scalars &scalars, const Atoms &atoms,
                                      const Terms &terms)
{
    // Clip the support of an atom to the grid; a warp does. False: nothing left, or its position is NaN.
    const int axis = threadIdx.x;
    __syncwarp();
    if (axis < 3) {
        // in double precision: far from zero, both have many digits in common
        const double r = (double)atoms.coords[3 * terms.i + axis] - center_of(atoms, grid.center, (int)terms.b, axis);
        split(a.position, axis, grid.origin[axis], r);
        const real extent = real_sqrt(scalars.profile.cutoff_s) * terms.radius / scalars.resolution;
        const real centre = -a.position.high[axis] / scalars.resolution;
        // for the rounding, the test of s decides; finite, since infinity - infinity is NaN
        const real slack = real_min((real)0.01 + (real)1e-6 * real_abs(centre), (real)1e6);
        const real lowest = real_max(real_ceil(centre - extent - slack), (real)0);
        const real highest = real_min(real_floor(centre + extent + slack), (real)(int)(grid.points[axis] - 1));
        const bool any = lowest <= highest && is_finite(centre);
        a.first[axis] = any ? (int)lowest : 0;
        a.count[axis] = any ? (int)highest - (int)lowest + 1 : 0;
        a.per_radius = per_radius_of(terms.radius);
        a.reach = terms.radius / scalars.resolution;
    }
    __syncwarp();
    return a.count[0] > 0 && a.count[1] > 0 && a.count[2] > 0;
}

__device__ __forceinline__ int quotient(int numerator, int denominator)
{
    // of numbers from 0 to 32, and of those by larger ones: half of one is more than the error
    return (int)(((float)numerator + 0.5f) / (float)denominator);
}

__device__ __forceinline__ Walk rewind(const Support &a)
{
    // before the first row of this thread
    const int lane = threadIdx.x;
    Walk walk = {};
    walk.step_x = quotient(32, a.count[1]);
    walk.step_y = 32 - walk.step_x * a.count[1];
    walk.x = quotient(lane, a.count[1]) - walk.step_x;
    walk.y = lane - quotient(lane, a.count[1]) * a.count[1] - walk.step_y;
    if (walk.y < 0) {
        walk.y += a.count[1];
        --walk.x;
    }
    return walk;
}

__device__ __forceinline__ void next_row(Walk &walk, const Support &a, const Scalars &scalars)
{
    // The next row of this thread, x outermost, as far as it may be nearer than the cutoff.
    walk.x += walk.step_x;
    walk.y += walk.step_y;
    if (walk.y >= a.count[1]) {
        walk.y -= a.count[1];
        ++walk.x;
    }
    if (walk.x >= a.count[0])
        return;
    walk.xi_x = delta_of(a.position, 0, (real)(a.first[0] + walk.x), scalars.resolution) * a.per_radius;
    walk.xi_y = delta_of(a.position, 1, (real)(a.first[1] + walk.y), scalars.resolution) * a.per_radius;
    const real cutoff_s = scalars.profile.cutoff_s;
    const real left = cutoff_s - square(walk.xi_x, walk.xi_y);
    // for the rounding, as in place; what the difference loses counts most where it is small
    const real extent = real_sqrt(real_max(left, 0) + (real)1e-6 * cutoff_s) * a.reach;
    const real centre = -a.position.high[2] / scalars.resolution;
    const real slack = real_min((real)0.01 + (real)1e-6 * real_abs(centre), (real)1e6);
    const int last = a.first[2] + a.count[2] - 1;
    walk.z = (int)real_max(real_ceil(centre - extent - slack), (real)a.first[2]) / VOXELS * VOXELS;
    const int highest = (int)real_min(real_floor(centre + extent + slack), (real)last);
    walk.end = left >= 0 ? (highest < last ? highest : last) + 1 : 0;
}

__device__ __forceinline__ bool next_piece(Walk &walk, Piece &p, bool &any, Support &a, const Geometry &grid,
                                           const Scalars &scalars)
{
    // The next piece of this thread, if there is any. False: none left for the warp, which asks together.
    const unsigned lane = threadIdx.x;
    while (walk.put - walk.taken < 32) {
        const bool puts = walk.z < walk.end;
        const unsigned votes = __ballot_sync(0xffffffffu, puts);
        if (votes == 0) {
            next_row(walk, a, scalars);
            if (__ballot_sync(0xffffffffu, walk.x < a.count[0]) == 0)
                break;
            continue;
        }
        if (puts) {
            const unsigned row = (unsigned)(a.first[0] + walk.x) * (unsigned)grid.points[1] + a.first[1] + walk.y;
            a.ring[(walk.put + __popc(votes & ((1u << lane) - 1))) % RING] = {row, walk.z, walk.xi_x, walk.xi_y};
            walk.z += VOXELS;
        }
        walk.put += __popc(votes);
    }
    __syncwarp();
    const unsigned ready = walk.put - walk.taken;
    any = lane < ready;
    if (any)
        p = a.ring[(walk.taken + lane) % RING];
    walk.taken += ready < 32 ? ready : 32;
    return ready != 0;
}

__device__ __forceinline__ Voxels voxels_of(const Piece &p, const Support &a, const Geometry &grid,
                                            const Scalars &scalars)
{
    Voxels v;
    const int left = (int)grid.points[2] - p.z;
    const real z = (real)p.z, s_xy = square(p.xi_x, p.xi_y);
#pragma unroll
    for (int l = 0; l < VOXELS; ++l) {
        v.xi_z[l] = delta_of(a.position, 2, z + l, scalars.resolution) * a.per_radius;
        v.s[l] = real_fma(v.xi_z[l], v.xi_z[l], s_xy);
        v.inside[l] = l < left && !(v.s[l] > scalars.profile.cutoff_s);
    }
    return v;
}

__device__ __forceinline__ bool is_aligned(const real *values, const Geometry &grid)
{
    // every piece of (..., X, Y, Z) is one 16-byte load or store
    return grid.points[2] % VOXELS == 0 && (size_t)values % 16 == 0;
}

__device__ __forceinline__ void read_piece(const real *channel, const Piece &p, const Geometry &grid, bool aligned,
                                           real (&v)[VOXELS])
{
    // what lies in the grid, else 0; aligned: all of it, in one load
    const int left = (int)grid.points[2] - p.z;
    channel += (unsigned long long)p.row * (unsigned)grid.points[2] + p.z;
    if (aligned) {
        const Packed packed = *(const Packed *)channel;
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            v[l] = packed.v[l];
    } else {
#pragma unroll
        for (int l = 0; l < VOXELS; ++l)
            v[l] = l < left ? channel[l] : (real)0;
    }
}

__device__ __forceinline__ real warp_sum(real v)
{
    // fixed order: by halves; every lane gets it
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

__device__ __forceinline__ real warp_sum(const real (&v)[4])
{
    // of v[n], for lanes 8 n to 8 n + 7: halves of the warp keep a pair each, quarters a number
    const int lane = threadIdx.x;
    const bool high = lane & 16, odd = lane & 8;
    const real first = (high ? v[2] : v[0]) + __shfl_xor_sync(0xffffffffu, high ? v[0] : v[2], 16);
    const real second = (high ? v[3] : v[1]) + __shfl_xor_sync(0xffffffffu, high ? v[1] : v[3], 16);
    real sum = (odd ? second : first) + __shfl_xor_sync(0xffffffffu, odd ? first : second, 8);
#pragma unroll
    for (int offset = 4; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    return sum;
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
