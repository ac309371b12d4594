// The profile of one atom as a function of s, the squared scaled distance: phi, phi_s, phi_ss.
// One text serves every tail; the coefficients come from gridgrad/grid/profile.py. Mirror: pyx/profile.pxd.
#pragma once
#ifndef REAL
#define REAL double
#endif
typedef REAL real;
#define LOG2_E ((real)1.4426950408889634)
#define REAL_MAX ((real)(sizeof(real) == 4 ? 3.402823466e38 : 1.7976931348623157e308))

struct Profile {
    real core_rate;     // e^{-core_rate s}
    real core_end;      // s <= core_end: the core
    real cutoff;        // x_f
    real cutoff_s;      // s > cutoff_s: nothing
    real tail[4];       // t^2 (tail[0] + tail[1] t + tail[2] t^2 + tail[3] t^3), t = x_f - sqrt(s)
};

__device__ __forceinline__ float real_sqrt(float x) { return sqrtf(x); }
__device__ __forceinline__ double real_sqrt(double x) { return sqrt(x); }
__device__ __forceinline__ float real_rsqrt(float x)
{
    // Infinite for a subnormal x too. Nothing depends on it: x is an s, core_end is 1e-6 or more (multiple_range in
    // gridgrad/grid/profile.py), and below it what comes of the root is not chosen
#ifdef __CUDA_ARCH__
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1 / (x < 1.17549435e-38f ? 0 : sqrtf(x));
#endif
}
__device__ __forceinline__ double real_rsqrt(double x) { return rsqrt(x); }
__device__ __forceinline__ float real_exp2(float x)
{
    // 0 where the result would be subnormal: of the core more than 6.6 radii away, less than 1e-37 of what it is at 0
    float y;
#ifdef __CUDA_ARCH__
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
#else
    y = exp2f(x);
    y = y < 1.17549435e-38f ? 0 : y;
#endif
    return y;
}
__device__ __forceinline__ double real_exp2(double x) { return exp2(x); }
__device__ __forceinline__ float real_fma(float x, float y, float z) { return fmaf(x, y, z); }
__device__ __forceinline__ double real_fma(double x, double y, double z) { return fma(x, y, z); }
__device__ __forceinline__ float real_max(float x, float y) { return fmaxf(x, y); }
__device__ __forceinline__ double real_max(double x, double y) { return fmax(x, y); }
__device__ __forceinline__ float real_min(float x, float y) { return fminf(x, y); }
__device__ __forceinline__ double real_min(double x, double y) { return fmin(x, y); }
__device__ __forceinline__ float real_abs(float x) { return fabsf(x); }
__device__ __forceinline__ double real_abs(double x) { return fabs(x); }
__device__ __forceinline__ float real_floor(float x) { return floorf(x); }
__device__ __forceinline__ double real_floor(double x) { return floor(x); }
__device__ __forceinline__ float real_ceil(float x) { return ceilf(x); }
__device__ __forceinline__ double real_ceil(double x) { return ceil(x); }

__device__ __forceinline__ bool has_slope(const Profile &c)
{
    // not: binary, whose derivatives in coordinates and radii are zero, whatever the cotangents
    return c.core_rate != 0;
}

// Of N voxels at once, since a branch costs as much as what it saves at one. A NaN s compares false with cutoff_s and
// core_end, and so reaches the result through the tail. core is e^{-core_rate s} as a power of two, 1 / u one reciprocal
// root: infinite or NaN at s = 0, which the core is chosen for. CUT: zero beyond cutoff_s; else who calls leaves that out.

template <int N>
__device__ __forceinline__ void core_of(const real (&s)[N], const Profile &c, real (&core)[N])
{
#pragma unroll
    for (int l = 0; l < N; ++l)
        core[l] = real_exp2(-LOG2_E * c.core_rate * s[l]);
}

template <int N>
__device__ __forceinline__ void polynomial(const real (&by)[N], const real (&t)[N], const Profile &c, real a, real b,
                                           real d, real e, real (&value)[N])
{
    // by (a tail[0] + b tail[1] t + d tail[2] t^2 + e tail[3] t^3); of a quadratic tail, the first term
    const bool higher = c.tail[1] != 0 || c.tail[2] != 0 || c.tail[3] != 0;
#pragma unroll
    for (int l = 0; l < N; ++l)
        value[l] = by[l] * (a * c.tail[0]);
    if (higher)
#pragma unroll
        for (int l = 0; l < N; ++l)
            value[l] += by[l] * t[l] * (b * c.tail[1] + t[l] * (d * c.tail[2] + t[l] * (e * c.tail[3])));
}

template <bool CUT = true, int N>
__device__ __forceinline__ void profile(const real (&s)[N], const real (&core)[N], const Profile &c, real (&phi)[N])
{
    // phi
    real t[N], tail[N];
#pragma unroll
    for (int l = 0; l < N; ++l)
        t[l] = c.cutoff - s[l] * real_rsqrt(s[l]);
    polynomial(t, t, c, 1, 1, 1, 1, tail);
#pragma unroll
    for (int l = 0; l < N; ++l) {
        const real value = s[l] <= c.core_end ? core[l] : t[l] * tail[l];
        phi[l] = CUT && s[l] > c.cutoff_s ? (real)0 : value;
    }
}

template <bool CUT = true, int N>
__device__ __forceinline__ void profile_slope(const real (&s)[N], const real (&core)[N], const Profile &c,
                                              real (&phi_s)[N])
{
    // phi_s = phi_u / (2u) in the tail, u = sqrt(s); half: phi_u / 2
    real per_u[N], t[N], half[N];
#pragma unroll
    for (int l = 0; l < N; ++l) {
        per_u[l] = real_rsqrt(s[l]);
        t[l] = c.cutoff - s[l] * per_u[l];
    }
    polynomial(t, t, c, -1, (real)-1.5, -2, (real)-2.5, half);
#pragma unroll
    for (int l = 0; l < N; ++l) {
        const real value = s[l] <= c.core_end ? -c.core_rate * core[l] : half[l] * per_u[l];
        phi_s[l] = CUT && s[l] > c.cutoff_s ? (real)0 : value;
    }
}

template <bool CUT = true, int N>
__device__ __forceinline__ void profile_curvature(const real (&s)[N], const real (&core)[N], const Profile &c,
                                                  real (&phi_ss)[N])
{
    // phi_ss = (phi_uu / 2 - phi_u / (2u)) / (2s) in the tail, u = sqrt(s); half: phi_u / 2, first: phi_uu / (4s)
    real per_u[N], t[N], per_2s[N], half[N], first[N];
#pragma unroll
    for (int l = 0; l < N; ++l) {
        per_u[l] = real_rsqrt(s[l]);
        t[l] = c.cutoff - s[l] * per_u[l];
        per_2s[l] = (real)0.5 * per_u[l] * per_u[l];
    }
    polynomial(t, t, c, -1, (real)-1.5, -2, (real)-2.5, half);
    polynomial(per_2s, t, c, 1, 3, 6, 10, first);
#pragma unroll
    for (int l = 0; l < N; ++l) {
        const real value =
            s[l] <= c.core_end ? c.core_rate * c.core_rate * core[l] : first[l] - half[l] * per_u[l] * per_2s[l];
        phi_ss[l] = CUT && s[l] > c.cutoff_s ? (real)0 : value;
    }
}
