// Sixteen lanes in four NEON registers, with the dot products of ARMv8.2.
//
//   instruction          Neoverse V1, V2   what follows
//   FMLA (float)         4 a cycle         4 products each
//   SDOT (int8)          4                 16 products: four times float
//   SMULL + ADDP (int16) 2 to 4            8 products in four instructions: half of float
//
// There are 32 registers: 6 rows of 4 for sums, 4 for weights. Bits are those of the x86 targets,
// tested in an emulator; the speed was never measured, and int16 could take a layout of its own.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace UNITVEC_TARGET {

constexpr int kTileRows = 6;
constexpr int kTileVectors = 1;

struct Floats {
    float32x4_t v[4];
};
struct Ints {
    int32x4_t v[4];
};

/// Applies `operation` to each quarter.
template <class Result, class Operation>
static inline Result by_quarters(const Operation& operation) {
    return {{operation(0), operation(1), operation(2), operation(3)}};
}

static inline Floats load(const float* p) {
    return by_quarters<Floats>([=](int i) { return vld1q_f32(p + 4 * i); });
}
static inline void store(float* p, Floats a) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.v[i]);
}
static inline Floats splat(float x) {
    return by_quarters<Floats>([=](int) { return vdupq_n_f32(x); });
}
static inline Floats add(Floats a, Floats b) {
    return by_quarters<Floats>([=](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
static inline Floats sub(Floats a, Floats b) {
    return by_quarters<Floats>([=](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
static inline Floats mul(Floats a, Floats b) {
    return by_quarters<Floats>([=](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
static inline Floats div(Floats a, Floats b) {
    return by_quarters<Floats>([=](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
static inline Floats fma(Floats a, Floats b, Floats c) {
    return by_quarters<Floats>([=](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
static inline Floats max(Floats a, Floats b) {
    return by_quarters<Floats>([=](int i) { return vmaxq_f32(a.v[i], b.v[i]); });
}
static inline Floats min(Floats a, Floats b) {
    return by_quarters<Floats>([=](int i) { return vminq_f32(a.v[i], b.v[i]); });
}
static inline Floats abs(Floats a) {
    return by_quarters<Floats>([=](int i) { return vabsq_f32(a.v[i]); });
}

static inline Ints load_ints(const void* p) {
    const int32_t* from = static_cast<const int32_t*>(p);
    return by_quarters<Ints>([=](int i) { return vld1q_s32(from + 4 * i); });
}
static inline void store_ints(void* p, Ints a) {
    for (int i = 0; i < 4; i++) vst1q_s32(static_cast<int32_t*>(p) + 4 * i, a.v[i]);
}
static inline Ints zero_ints() {
    return by_quarters<Ints>([](int) { return vdupq_n_s32(0); });
}
/// To the nearest integer, halves to the even one.
static inline Ints nearest(Floats a) {
    return by_quarters<Ints>([=](int i) { return vcvtnq_s32_f32(a.v[i]); });
}
static inline Floats to_floats(Ints a) {
    return by_quarters<Floats>([=](int i) { return vcvtq_f32_s32(a.v[i]); });
}

/// a * 2^n, as long as the result is a normal number.
static inline Floats scale_by_power(Floats a, Ints n) {
    return by_quarters<Floats>([=](int i) {
        const int32x4_t bits = vreinterpretq_s32_f32(a.v[i]);
        return vreinterpretq_f32_s32(vaddq_s32(bits, vshlq_n_s32(n.v[i], 23)));
    });
}
/// The first n lanes as they are, all others `fill`.
static inline Floats keep_first(Floats a, int n, float fill) {
    const int32_t lanes[4] = {0, 1, 2, 3};
    return by_quarters<Floats>([=](int i) {
        const uint32x4_t kept = vcltq_s32(vld1q_s32(lanes), vdupq_n_s32(n - 4 * i));
        return vbslq_f32(kept, a.v[i], vdupq_n_f32(fill));
    });
}

/// Lanes 8 apart, then 4, then 2, then 1: the order of every target.
static inline float sum_of_lanes(Floats a) {
    const float32x4_t low = vaddq_f32(a.v[0], a.v[2]), high = vaddq_f32(a.v[1], a.v[3]);
    const float32x4_t four = vaddq_f32(low, high);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
static inline float largest_lane(Floats a) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[2]), vmaxq_f32(a.v[1], a.v[3])));
}

/// 16 integers of 16 bits as int16.
static inline void store_shorts(void* p, Ints a) {
    int16_t* to = static_cast<int16_t*>(p);
    vst1q_s16(to, vcombine_s16(vqmovn_s32(a.v[0]), vqmovn_s32(a.v[1])));
    vst1q_s16(to + 8, vcombine_s16(vqmovn_s32(a.v[2]), vqmovn_s32(a.v[3])));
}
/// 32 integers of 16 bits as int16, in an order that is the same at each call.
static inline void store_shorts_in_some_order(void* p, Ints a, Ints b) {
    store_shorts(p, a);
    store_shorts(static_cast<int16_t*>(p) + 16, b);
}
/// 16 integers of [-127, 127] as bytes, each with `flip` xor-ed into it.
static inline void store_bytes(uint8_t* p, Ints a, uint8_t flip) {
    const int16x8_t low = vcombine_s16(vqmovn_s32(a.v[0]), vqmovn_s32(a.v[1]));
    const int16x8_t high = vcombine_s16(vqmovn_s32(a.v[2]), vqmovn_s32(a.v[3]));
    const int8x16_t bytes = vcombine_s8(vqmovn_s16(low), vqmovn_s16(high));
    vst1q_u8(p, veorq_u8(vreinterpretq_u8_s8(bytes), vdupq_n_u8(flip)));
}
/// Lane by lane: the lower 16 bits of `low`, and above them those of `high`.
static inline Ints pair_shorts(Ints low, Ints high) {
    return by_quarters<Ints>([=](int i) { return vsliq_n_s32(low.v[i], high.v[i], 16); });
}

/// To the nearest bf16, halves to the even one, as integers of 16 bits; 0 below `least`.
static inline Ints to_bf16(Floats a, float least) {
    return by_quarters<Ints>([=](int i) {
        const uint32x4_t bits = vreinterpretq_u32_f32(a.v[i]);
        const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        const int32x4_t kept = vreinterpretq_s32_u32(vcageq_f32(a.v[i], vdupq_n_f32(least)));
        return vandq_s32(vshrq_n_s32(vreinterpretq_s32_u32(rounded), 16), kept);
    });
}
/// Pairs of bf16 to floats: the number in the upper half of each dword, and that in the lower one.
static inline Floats upper_bf16(Floats a) {
    return by_quarters<Floats>([=](int i) {
        const uint32x4_t bits = vreinterpretq_u32_f32(a.v[i]);
        return vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff0000)));
    });
}
static inline Floats lower_bf16(Floats a) {
    return by_quarters<Floats>([=](int i) {
        return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a.v[i]), 16));
    });
}

/// Asks for the line at p to be in the second level of cache soon.
static inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

/// Turns 16 rows of 16 dwords into columns: to[c][r] = from[r][c]. Rows at and after `rows` are 0.
static inline void transpose(const uint32_t* from, int from_stride, int rows, uint32_t* to,
                             int to_stride) {
    for (int c = 0; c < 16; c++) {
        for (int r = 0; r < 16; r++) {
            to[(long)c * to_stride + r] = r < rows ? from[(long)r * from_stride + c] : 0;
        }
    }
}

static inline int32x4_t splat_dword(const uint32_t* p) { return vdupq_n_s32((int32_t)*p); }

constexpr uint8_t kByteFlip = 0;  // SDOT multiplies signed by signed bytes

struct LeftBytes {
    int8x16_t v;
};
static inline LeftBytes left_bytes(const uint32_t* p) {
    return {vreinterpretq_s8_s32(splat_dword(p))};
}
static inline Ints dot_bytes(Ints sum, LeftBytes a, Ints b) {
    return by_quarters<Ints>(
        [=](int i) { return vdotq_s32(sum.v[i], vreinterpretq_s8_s32(b.v[i]), a.v); });
}
struct LeftShorts {
    int16x8_t v;
};
static inline LeftShorts left_shorts(const uint32_t* p) {
    return {vreinterpretq_s16_s32(splat_dword(p))};
}
static inline Ints dot_shorts(Ints sum, LeftShorts a, Ints b) {
    return by_quarters<Ints>([=](int i) {
        const int16x8_t weights = vreinterpretq_s16_s32(b.v[i]);
        const int32x4_t low = vmull_s16(vget_low_s16(weights), vget_low_s16(a.v));
        return vaddq_s32(sum.v[i], vpaddq_s32(low, vmull_high_s16(weights, a.v)));
    });
}

}  // namespace UNITVEC_TARGET
