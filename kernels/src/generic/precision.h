// The four kinds of numbers that products are made of.
//
// Each says how many elements of K share a dword, what a sum is, and how a dword of the left side
// and 16 dwords of a panel are multiplied and added to it. Sums of integers are exact:
//
//   int8     |x| and |w| <= 127, so a sum of K products stays below 2^31 for K < 130,000
//   int16    |x| <= 8191, and the magnitudes of a column of weights add up to less than
//            2^31 / 8191 (export chooses the scale of the column so, and loading checks it)
//
// A dword of bf16 is added to a sum in two steps, each of them a fused multiply-add: the upper
// number first, then the lower one. So does VDPBF16PS, which takes denormal numbers for 0, while
// FMAs compute with them; but there are none. No number is below 2^-50 in magnitude, unless it is 0,
// so all products and all sums are multiples of 2^-114: numbers of 2^-50 have no bit below 2^-57.
#pragma once

namespace UNITVEC_TARGET {

struct Float32 {
    static constexpr int kPerDword = 1;
    static constexpr int kParts = 1;   // steps in which a dword is multiplied
    static constexpr int kLevels = 0;  // steps on each side of 0; 0 where nothing is rounded
    using Sum = Floats;
    using Right = Floats;
    static Sum start(const int32_t*, int) { return splat(0); }
    static Floats left(const uint32_t* p, int) {
        float x;
        std::memcpy(&x, p, 4);
        return splat(x);
    }
    static Right right(const uint32_t* p, int) { return load(reinterpret_cast<const float*>(p)); }
    static Sum dot(Sum sum, Floats a, Right b) { return fma(a, b, sum); }
    static Floats value(Sum sum) { return sum; }
};

constexpr float kLeastBf16 = 0x1p-50f;  // what is smaller counts as 0

struct Bf16 {
    static constexpr int kPerDword = 2;
    static constexpr int kLevels = 0;
    using Sum = Floats;
    using Right = Floats;  // of pairs, or of one half of each
    static Sum start(const int32_t*, int) { return splat(0); }
#ifdef UNITVEC_BF16_PRODUCTS
    static constexpr int kParts = 1;
    static Floats left(const uint32_t* p, int) { return Float32::left(p, 0); }
    static Right right(const uint32_t* p, int) { return Float32::right(p, 0); }
    static Sum dot(Sum sum, Floats a, Right b) { return dot_bf16(sum, a, b); }
#else
    static constexpr int kParts = 2;
    static Floats half(Floats pairs, int part) {
        return part == 0 ? upper_bf16(pairs) : lower_bf16(pairs);
    }
    static Floats left(const uint32_t* p, int part) { return half(Float32::left(p, 0), part); }
    static Right right(const uint32_t* p, int part) { return half(Float32::right(p, 0), part); }
    static Sum dot(Sum sum, Floats a, Right b) { return fma(a, b, sum); }
#endif
    static Floats value(Sum sum) { return sum; }
};

struct Int8 {
    static constexpr int kPerDword = 4;
    static constexpr int kParts = 1;
    static constexpr int kLevels = 127;
    using Sum = Ints;
    using Right = Ints;
    static Sum start(const int32_t* starts, int column) {
        if constexpr (kByteFlip != 0) return load_ints(starts + column);
        return zero_ints();
    }
    static LeftBytes left(const uint32_t* p, int) { return left_bytes(p); }
    static Right right(const uint32_t* p, int) { return load_ints(p); }
    static Sum dot(Sum sum, LeftBytes a, Right b) { return dot_bytes(sum, a, b); }
    static Floats value(Sum sum) { return to_floats(sum); }
};

struct Int16 {
    static constexpr int kPerDword = 2;
    static constexpr int kParts = 1;
    static constexpr int kLevels = 8191;
    using Sum = Ints;
    using Right = Ints;
    static Sum start(const int32_t*, int) { return zero_ints(); }
    static LeftShorts left(const uint32_t* p, int) { return left_shorts(p); }
    static Right right(const uint32_t* p, int) { return load_ints(p); }
    static Sum dot(Sum sum, LeftShorts a, Right b) { return dot_shorts(sum, a, b); }
    static Floats value(Sum sum) { return to_floats(sum); }
};

}  // namespace UNITVEC_TARGET
