// Sixteen lanes in one AVX-512 register, and the products of AVX-512 VNNI.
//
//   instruction            Zen 4        Zen 5        Cascade, Ice Lake    what follows
//   VFMADD231PS (float)    1 a cycle    2 a cycle    2 a cycle            16 products each
//   VPDPWSSD (int16)       1            2            1 to 2               32 products: twice float
//   VPDPBUSD (int8)        1            2            1 to 2               64 products: four times float
//   VDPBF16PS (bf16)       1            2            none                 32 products: twice float
//
// Each has a latency of 4 to 5 cycles, so at least 10 sums must be under way at a time. The tile
// has 28 (14 rows of 2 registers): with 2 registers of weights and 1 that holds a number of the
// left side in all lanes, these are 31 of the 32 registers.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace UNITVEC_TARGET {

constexpr int kTileRows = 14;
constexpr int kTileVectors = 2;  // registers of 16 columns in a tile

struct Floats {
    __m512 v;
};
// Not __m512i: GCC 12 keeps arrays of that type in memory, and sums must stay in registers.
typedef int IntRegister __attribute__((vector_size(64), aligned(64)));
struct Ints {
    IntRegister v;
};
static inline __m512i raw(Ints a) { return (__m512i)a.v; }
static inline Ints ints(__m512i v) { return {(IntRegister)v}; }

static inline Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline void store(float* p, Floats a) { _mm512_storeu_ps(p, a.v); }
static inline Floats splat(float x) { return {_mm512_set1_ps(x)}; }
static inline Floats add(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline Floats sub(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline Floats mul(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline Floats div(Floats a, Floats b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline Floats fma(Floats a, Floats b, Floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline Floats max(Floats a, Floats b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline Floats min(Floats a, Floats b) { return {_mm512_min_ps(a.v, b.v)}; }
static inline Floats abs(Floats a) { return {_mm512_abs_ps(a.v)}; }

static inline Ints load_ints(const void* p) { return ints(_mm512_loadu_si512(p)); }
static inline void store_ints(void* p, Ints a) { _mm512_storeu_si512(p, raw(a)); }
static inline Ints zero_ints() { return ints(_mm512_setzero_si512()); }
static inline Ints splat_dword(const uint32_t* p) {
    int value;
    std::memcpy(&value, p, 4);
    return ints(_mm512_set1_epi32(value));
}
/// To the nearest integer, halves to the even one.
static inline Ints nearest(Floats a) { return ints(_mm512_cvtps_epi32(a.v)); }
static inline Floats to_floats(Ints a) { return {_mm512_cvtepi32_ps(raw(a))}; }

/// a * 2^n, as long as the result is a normal number.
static inline Floats scale_by_power(Floats a, Ints n) {
    const __m512i exponent = _mm512_slli_epi32(raw(n), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), exponent))};
}
/// The first n lanes as they are, all others `fill`.
static inline Floats keep_first(Floats a, int n, float fill) {
    const __mmask16 kept = (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1);
    return {_mm512_mask_mov_ps(_mm512_set1_ps(fill), kept, a.v)};
}
/// Lanes 8 to 15; `low_half` gives lanes 0 to 7.
static inline __m256 high_half(Floats a) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1));
}
static inline __m256 low_half(Floats a) { return _mm512_castps512_ps256(a.v); }

/// 16 integers of [-127, 127] as bytes, each with `flip` xor-ed into it.
static inline void store_bytes(uint8_t* p, Ints a, uint8_t flip) {
    const __m128i bytes = _mm512_cvtsepi32_epi8(raw(a));
    _mm_storeu_si128((__m128i*)p, _mm_xor_si128(bytes, _mm_set1_epi8((char)flip)));
}
/// 16 integers of 16 bits as int16.
static inline void store_shorts(void* p, Ints a) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtsepi32_epi16(raw(a)));
}
/// 32 integers of 16 bits as int16, in an order that is the same at each call.
static inline void store_shorts_in_some_order(void* p, Ints a, Ints b) {
    _mm512_storeu_si512(p, _mm512_packs_epi32(raw(a), raw(b)));
}
/// Lane by lane: the lower 16 bits of `low`, and above them those of `high`.
static inline Ints pair_shorts(Ints low, Ints high) {
    return ints(_mm512_mask_blend_epi16(0xaaaaaaaa, raw(low), _mm512_slli_epi32(raw(high), 16)));
}

/// To the nearest bf16, halves to the even one, as integers of 16 bits; 0 below `least`.
static inline Ints to_bf16(Floats a, float least) {
    const __m512i bits = _mm512_castps_si512(a.v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __mmask16 kept = _mm512_cmp_ps_mask(abs(a).v, _mm512_set1_ps(least), _CMP_GE_OQ);
    return ints(_mm512_maskz_srai_epi32(kept, _mm512_add_epi32(bits, half), 16));
}
/// Pairs of bf16 to floats: the number in the upper half of each dword, and that in the lower one.
static inline Floats upper_bf16(Floats a) {
    // A mask of bits would take the last vector register of a tile.
    return {_mm512_castsi512_ps(_mm512_maskz_mov_epi16(0xaaaaaaaa, _mm512_castps_si512(a.v)))};
}
static inline Floats lower_bf16(Floats a) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 16))};
}
#ifdef __AVX512BF16__
#define UNITVEC_BF16_PRODUCTS
/// Adds the products of the upper halves, then those of the lower ones.
static inline Floats dot_bf16(Floats sum, Floats a, Floats b) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b.v)};
}
#endif

/// Asks for the line at p to be in the second level of cache soon.
static inline void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

/// Turns 16 rows of 16 dwords into columns: to[c][r] = from[r][c]. Rows at and after `rows` are 0.
static inline void transpose(const uint32_t* from, int from_stride, int rows, uint32_t* to,
                             int to_stride) {
    __m512 r[16], t[16];
    for (int i = 0; i < 16; i++) {
        r[i] = i < rows ? _mm512_loadu_ps(from + (long)i * from_stride) : _mm512_setzero_ps();
    }
    // Pairs of rows, then pairs of pairs: r[4 g + c] has columns c, c + 4, c + 8, c + 12 of rows
    // 4 g to 4 g + 3, one column in each quarter.
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int half = 0; half < 2; half++) {
            const __m512d a = _mm512_castps_pd(t[i + half]);
            const __m512d b = _mm512_castps_pd(t[i + 2 + half]);
            r[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // The same quarter of all four groups becomes one row. 0x88 takes quarters 0 and 2, 0xdd 1 and 3.
    for (int c = 0; c < 4; c++) {
        const __m512 even_low = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
        const __m512 even_high = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
        const __m512 odd_low = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
        const __m512 odd_high = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
        uint32_t* at = to + (long)c * to_stride;
        _mm512_storeu_ps(at, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
        _mm512_storeu_ps(at + 4L * to_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
        _mm512_storeu_ps(at + 8L * to_stride, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
        _mm512_storeu_ps(at + 12L * to_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
    }
}

// VPDPBUSD multiplies unsigned by signed bytes: activations are stored with 128 added, and sums
// start at -128 times the sum of their column, so that they end up exact.
constexpr uint8_t kByteFlip = 0x80;

struct LeftBytes {
    Ints v;
};
static inline LeftBytes left_bytes(const uint32_t* p) { return {splat_dword(p)}; }
static inline Ints dot_bytes(Ints sum, LeftBytes a, Ints b) {
    return ints(_mm512_dpbusd_epi32(raw(sum), raw(a.v), raw(b)));
}
struct LeftShorts {
    Ints v;
};
static inline LeftShorts left_shorts(const uint32_t* p) { return {splat_dword(p)}; }
static inline Ints dot_shorts(Ints sum, LeftShorts a, Ints b) {
    return ints(_mm512_dpwssd_epi32(raw(sum), raw(a.v), raw(b)));
}

}  // namespace UNITVEC_TARGET
