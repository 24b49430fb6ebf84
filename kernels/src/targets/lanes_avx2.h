// Sixteen lanes in two AVX2 registers, with the products of AVX-VNNI where the file is compiled
// for it, else those of AVX2.
//
//   instruction                     a cycle      what follows
//   VFMADD231PS (float)             2            8 products each
//   VPMADDWD + VPADDD (int16)       2 of 3 ports 16 products in two instructions: as float, or a bit less
//   VPMADDUBSW + VPMADDWD + VPADDD  2 of 3 ports 32 products in three, and a VPSIGNB: about as float
//   VPDPWSSD, VPDPBUSD (AVX-VNNI)   2            16 and 32 products: two and four times float
//
// There are 16 registers. The tile has 5 rows of 2 registers; the rest hold 2 of weights, the
// number of the left side and what is between two instructions.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace UNITVEC_TARGET {

constexpr int kTileRows = 5;
constexpr int kTileVectors = 1;  // vectors of 16 columns in a tile

struct Floats {
    __m256 low, high;
};
// Not __m256i: GCC 12 keeps arrays of that type in memory, and sums must stay in registers.
typedef int IntRegister __attribute__((vector_size(32), aligned(32)));
struct Ints {
    IntRegister low, high;
};
static inline __m256i low_of(Ints a) { return (__m256i)a.low; }
static inline __m256i high_of(Ints a) { return (__m256i)a.high; }
static inline Ints ints(__m256i low, __m256i high) { return {(IntRegister)low, (IntRegister)high}; }

static inline Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
static inline void store(float* p, Floats a) {
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
}
static inline Floats splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline Floats add(Floats a, Floats b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
static inline Floats sub(Floats a, Floats b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
static inline Floats mul(Floats a, Floats b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
static inline Floats div(Floats a, Floats b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
static inline Floats fma(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
static inline Floats max(Floats a, Floats b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
static inline Floats min(Floats a, Floats b) {
    return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
static inline Floats abs(Floats a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}

static inline Ints load_ints(const void* p) {
    return ints(_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)p + 1));
}
static inline void store_ints(void* p, Ints a) {
    _mm256_storeu_si256((__m256i*)p, low_of(a));
    _mm256_storeu_si256((__m256i*)p + 1, high_of(a));
}
static inline Ints zero_ints() { return ints(_mm256_setzero_si256(), _mm256_setzero_si256()); }
/// To the nearest integer, halves to the even one.
static inline Ints nearest(Floats a) {
    return ints(_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high));
}
static inline Floats to_floats(Ints a) {
    return {_mm256_cvtepi32_ps(low_of(a)), _mm256_cvtepi32_ps(high_of(a))};
}

/// a * 2^n, as long as the result is a normal number.
static inline __m256 scale_by_power(__m256 a, __m256i n) {
    const __m256i exponent = _mm256_slli_epi32(n, 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), exponent));
}
static inline Floats scale_by_power(Floats a, Ints n) {
    return {scale_by_power(a.low, low_of(n)), scale_by_power(a.high, high_of(n))};
}
/// The first n lanes as they are, all others `fill`.
static inline __m256 keep_first(__m256 a, int n, float fill) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 kept = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
    return _mm256_blendv_ps(_mm256_set1_ps(fill), a, kept);
}
static inline Floats keep_first(Floats a, int n, float fill) {
    return {keep_first(a.low, n, fill), keep_first(a.high, n - 8, fill)};
}
/// Lanes 8 to 15; `low_half` gives lanes 0 to 7.
static inline __m256 high_half(Floats a) { return a.high; }
static inline __m256 low_half(Floats a) { return a.low; }

/// 16 integers of 16 bits as int16.
static inline __m256i to_shorts(Ints a) {
    // VPACKSSDW works on each half of a register for itself: 0xd8 swaps the middle quarters back.
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low_of(a), high_of(a)), 0xd8);
}
static inline void store_shorts(void* p, Ints a) {
    _mm256_storeu_si256((__m256i*)p, to_shorts(a));
}
/// 32 integers of 16 bits as int16, in an order that is the same at each call.
static inline void store_shorts_in_some_order(void* p, Ints a, Ints b) {
    _mm256_storeu_si256((__m256i*)p, _mm256_packs_epi32(low_of(a), low_of(b)));
    _mm256_storeu_si256((__m256i*)p + 1, _mm256_packs_epi32(high_of(a), high_of(b)));
}
/// 16 integers of [-127, 127] as bytes, each with `flip` xor-ed into it.
static inline void store_bytes(uint8_t* p, Ints a, uint8_t flip) {
    const __m256i shorts = to_shorts(a);
    const __m128i high = _mm256_extracti128_si256(shorts, 1);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(shorts), high);
    _mm_storeu_si128((__m128i*)p, _mm_xor_si128(bytes, _mm_set1_epi8((char)flip)));
}
/// Lane by lane: the lower 16 bits of `low`, and above them those of `high`.
static inline Ints pair_shorts(Ints low, Ints high) {
    return ints(_mm256_blend_epi16(low_of(low), _mm256_slli_epi32(low_of(high), 16), 0xaa),
                _mm256_blend_epi16(high_of(low), _mm256_slli_epi32(high_of(high), 16), 0xaa));
}

/// To the nearest bf16, halves to the even one, as integers of 16 bits; 0 below `least`.
static inline __m256i to_bf16(__m256 a, __m256 magnitude, float least) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256 kept = _mm256_cmp_ps(magnitude, _mm256_set1_ps(least), _CMP_GE_OQ);
    const __m256i rounded = _mm256_srai_epi32(_mm256_add_epi32(bits, half), 16);
    return _mm256_and_si256(rounded, _mm256_castps_si256(kept));
}
static inline Ints to_bf16(Floats a, float least) {
    const Floats magnitudes = abs(a);
    return ints(to_bf16(a.low, magnitudes.low, least), to_bf16(a.high, magnitudes.high, least));
}
/// Pairs of bf16 to floats: the number in the upper half of each dword, and that in the lower one.
static inline Floats upper_bf16(Floats a) {
    const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000));
    return {_mm256_and_ps(a.low, mask), _mm256_and_ps(a.high, mask)};
}
static inline __m256 lower_bf16(__m256 a) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16));
}
static inline Floats lower_bf16(Floats a) { return {lower_bf16(a.low), lower_bf16(a.high)}; }

/// Asks for the line at p to be in the second level of cache soon.
static inline void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

/// Turns 16 rows of 16 dwords into columns: to[c][r] = from[r][c]. Rows at and after `rows` are 0.
static inline void transpose(const uint32_t* from, int from_stride, int rows, uint32_t* to,
                             int to_stride) {
    for (int c = 0; c < 16; c++) {
        for (int r = 0; r < 16; r++) {
            to[(long)c * to_stride + r] = r < rows ? from[(long)r * from_stride + c] : 0;
        }
    }
}

static inline __m256i splat_dword(const uint32_t* p) {
    int value;
    std::memcpy(&value, p, 4);
    return _mm256_set1_epi32(value);
}

#if defined(__AVXVNNI__)
// As with AVX-512: activations have 128 added, and sums start at -128 times those of the columns.
constexpr uint8_t kByteFlip = 0x80;

struct LeftBytes {
    __m256i v;
};
static inline LeftBytes left_bytes(const uint32_t* p) { return {splat_dword(p)}; }
static inline Ints dot_bytes(Ints sum, LeftBytes a, Ints b) {
    return ints(_mm256_dpbusd_avx_epi32(low_of(sum), a.v, low_of(b)),
                _mm256_dpbusd_avx_epi32(high_of(sum), a.v, high_of(b)));
}
struct LeftShorts {
    __m256i v;
};
static inline LeftShorts left_shorts(const uint32_t* p) { return {splat_dword(p)}; }
static inline Ints dot_shorts(Ints sum, LeftShorts a, Ints b) {
    return ints(_mm256_dpwssd_avx_epi32(low_of(sum), a.v, low_of(b)),
                _mm256_dpwssd_avx_epi32(high_of(sum), a.v, high_of(b)));
}
#else
constexpr uint8_t kByteFlip = 0;

// VPMADDUBSW multiplies unsigned by signed bytes and saturates sums of two at 16 bits. With |a| and
// b of the sign of a, all within 127, no sum of two exceeds 2 * 127 * 127 < 2^15: it is exact.
struct LeftBytes {
    __m256i signed_bytes, magnitudes;
};
static inline LeftBytes left_bytes(const uint32_t* p) {
    const __m256i v = splat_dword(p);
    return {v, _mm256_abs_epi8(v)};
}
static inline __m256i dot_bytes(__m256i sum, LeftBytes a, __m256i b) {
    const __m256i signed_b = _mm256_sign_epi8(b, a.signed_bytes);
    const __m256i pairs = _mm256_maddubs_epi16(a.magnitudes, signed_b);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static inline Ints dot_bytes(Ints sum, LeftBytes a, Ints b) {
    return ints(dot_bytes(low_of(sum), a, low_of(b)), dot_bytes(high_of(sum), a, high_of(b)));
}
struct LeftShorts {
    __m256i v;
};
static inline LeftShorts left_shorts(const uint32_t* p) { return {splat_dword(p)}; }
static inline Ints dot_shorts(Ints sum, LeftShorts a, Ints b) {
    return ints(_mm256_add_epi32(low_of(sum), _mm256_madd_epi16(a.v, low_of(b))),
                _mm256_add_epi32(high_of(sum), _mm256_madd_epi16(a.v, high_of(b))));
}
#endif

}  // namespace UNITVEC_TARGET
