// The voxels that one atom reaches, walked by a block with its lanes along z. Mirror: pyx/support.pxd.
#pragma once
#include "atoms.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 1000
#define ATOM_BLOCKS (sizeof(real) == 4 ? 16 : 6) // of a multiprocessor: 64 registers a thread, 168 in double precision
#define SECOND_BLOCKS (sizeof(real) == 4 ? 12 : 6) // 80, 168: the second order
#else
#define ATOM_BLOCKS (sizeof(real) == 4 ? 10 : 6) // 96: from sm_100 on, 64 do not do
#define SECOND_BLOCKS (sizeof(real) == 4 ? 8 : 6) // 128
#endif

enum {
    ATOM_THREADS = 64, // one block per atom: each warp repeats what precedes its voxels
    SUM_THREADS = 256, // one block per sum
    GROUP = 4 // channels accumulated at a time
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
};

struct Scalars { // the numbers of Geometry as reals, in shared memory
    real resolution;
    real origin[3]; // in a tile: of the grid of its example
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

__device__ __forceinline__ void narrow(Scalars &scalars, const Geometry &grid)
{
    // one conversion a thread: on most devices it costs 32 times what it does in single precision
    if (threadIdx.x < sizeof(Scalars) / sizeof(real))
        ((real *)&scalars)[threadIdx.x] = (real)((const double *)&grid)[NUMBERS_BEGIN + threadIdx.x];
    __syncthreads();
}

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

__device__ __forceinline__ real delta_of(const Position &position, int axis, int voxel, real resolution)
{
    // the same bits in every kernel, and nearly those of double precision
    return real_fma((real)voxel, resolution, position.high[axis]) + position.low[axis];
}

__device__ __forceinline__ real square(real xi_x, real xi_y, real xi_z)
{
    return real_fma(xi_z, xi_z, real_fma(xi_y, xi_y, xi_x * xi_x));
}

struct Support { // in shared memory
    Position position; // of the atom
    real per_radius; // 1 / R
    int first[3]; // first voxel of the support
    int count[3]; // voxels of the support; 0: nothing left
};

struct Voxel { // of a thread
    int width, lane; // threads along z, and which of them this is; the others take other rows
    int step_x, step_y; // from a row of this thread to its next
    int x, y, z; // in the support; z: of lane 0
    bool inside;
    long long offset; // inside its channel
    real xi_x, xi_y, xi_z;
    real s;
};

__device__ __forceinline__ void fill(real *target, long long n, real value)
{
    for (long long k = threadIdx.x; target != nullptr && k < n; k += ATOM_THREADS)
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
    // Clip the support of an atom to the grid. False: nothing left, or its position is NaN.
    const int axis = threadIdx.x;
    __syncthreads();
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
    }
    __syncthreads();
    return a.count[0] > 0 && a.count[1] > 0 && a.count[2] > 0;
}

__device__ __forceinline__ void rewind(Voxel &v, const Support &a)
{
    // before the first voxel of this thread; where the rows are dealt out and threads are left over, those have none
    v.width = a.count[2] <= ATOM_THREADS ? a.count[2] : 32;
    const int rows = ATOM_THREADS / v.width, row = (int)threadIdx.x / v.width;
    v.lane = (int)threadIdx.x % v.width;
    v.step_x = rows / a.count[1];
    v.step_y = rows % a.count[1];
    v.x = row < rows ? row / a.count[1] : a.count[0];
    v.y = row % a.count[1];
    v.z = -v.width;
}

__device__ __forceinline__ bool next_voxel(Voxel &v, const Support &a, const Geometry &grid, const Scalars &scalars)
{
    // The next voxel of this thread, x outermost, z innermost; it may lie outside the support. False: none left.
    v.z += v.width;
    if (v.z >= a.count[2]) {
        v.z = 0;
        v.x += v.step_x;
        v.y += v.step_y;
        if (v.y >= a.count[1]) {
            v.y -= a.count[1];
            ++v.x;
        }
    }
    if (v.x >= a.count[0])
        return false;
    const int x = a.first[0] + v.x, y = a.first[1] + v.y, z = a.first[2] + v.z + v.lane;
    v.xi_x = delta_of(a.position, 0, x, scalars.resolution) * a.per_radius;
    v.xi_y = delta_of(a.position, 1, y, scalars.resolution) * a.per_radius;
    v.xi_z = delta_of(a.position, 2, z, scalars.resolution) * a.per_radius;
    v.s = square(v.xi_x, v.xi_y, v.xi_z);
    v.inside = v.z + v.lane < a.count[2] && !(v.s > scalars.profile.cutoff_s);
    v.offset = ((long long)x * (int)grid.points[1] + y) * (int)grid.points[2] + z; // an axis counts in 32 bits
    return true;
}

template <int THREADS, class T, int N>
__device__ __forceinline__ void block_sum(T (&v)[N])
{
    // fixed order: lanes by halves, then warps one after another; every thread gets the sums
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
    __syncthreads();
}
