// What is done to one token at a time: rounding, and LayerNorm.
#pragma once

namespace UNITVEC_TARGET {

static inline float at_least(float x, float low) { return x > low ? x : low; }
static inline float at_most(float x, float high) { return x < high ? x : high; }
constexpr float kTiny = 1e-10f;  // stands for the largest of numbers that are all 0

/// Writes a row of n numbers as row `row` of a left side of `rows` rows.
///
/// Layout: [block of 16 dwords][row][16 dwords], so that a row has one cache line in each block.
/// Integers are numbers times `smoothing`, the largest magnitude becoming P::kLevels steps.
///
/// Returns: what one step is worth; 1 for floats.
template <class P>
static inline float write_left_row(const float* x, const float* smoothing, int n, uint32_t* left,
                                   int row, int rows) {
    const long block_stride = (long)rows * kLineDwords;
    uint32_t* line = left + (long)row * kLineDwords;
    if constexpr (std::is_same_v<P, Float32>) {
        for (int j = 0; j < n; j += 16, line += block_stride) {
            store(reinterpret_cast<float*>(line), load(x + j));
        }
        return 1;
    } else if constexpr (std::is_same_v<P, Bf16>) {
        for (int j = 0; j < n; j += 32, line += block_stride) {
            store_shorts(line, to_bf16(load(x + j), kLeastBf16));
            store_shorts(line + kLineDwords / 2, to_bf16(load(x + j + 16), kLeastBf16));
        }
        return 1;
    } else {
        Floats peak = splat(0);
        for (int j = 0; j < n; j += 16) peak = max(peak, abs(mul(load(x + j), load(smoothing + j))));
        const float largest = at_least(largest_lane(peak), kTiny);
        const Floats steps = splat(P::kLevels / largest);
        constexpr int kPieces = P::kPerDword;  // 16 numbers each
        for (int j = 0; j < n; j += 16 * kPieces, line += block_stride) {
            uint8_t* to = reinterpret_cast<uint8_t*>(line);
            for (int piece = 0; piece < kPieces; piece++) {
                const int at = j + 16 * piece;
                const Ints q = nearest(mul(mul(load(x + at), load(smoothing + at)), steps));
                if constexpr (P::kPerDword == 4) store_bytes(to + 16 * piece, q, kByteFlip);
                else store_shorts(to + 32 * piece, q);
            }
        }
#ifdef UNITVEC_MATRIX_TILES
        if constexpr (std::is_same_v<P, Int16>) {
            cut_left_row(left + (long)row * kLineDwords, n / 32, block_stride);
        }
#endif
        return largest / P::kLevels;
    }
}

/// x <- LayerNorm(x). Sums run in four strands, so that additions need not wait for each other.
static inline void layer_norm(float* x, const Norm& norm, int n, float epsilon) {
    Floats sums[4], squares[4];
    for (int k = 0; k < 4; k++) sums[k] = squares[k] = splat(0);
    for (int j = 0; j < n; j += 64) {
        for (int k = 0; k < 4; k++) sums[k] = add(sums[k], load(x + j + 16 * k));
    }
    const float total = sum_of_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
    const Floats mean = splat(total / n);
    for (int j = 0; j < n; j += 64) {
        for (int k = 0; k < 4; k++) {
            const Floats d = sub(load(x + j + 16 * k), mean);
            squares[k] = fma(d, d, squares[k]);
        }
    }
    const Floats four = add(add(squares[0], squares[1]), add(squares[2], squares[3]));
    const Floats inverse = splat(1.0f / std::sqrt(sum_of_lanes(four) / n + epsilon));
    for (int j = 0; j < n; j += 16) {
        const Floats flat = mul(sub(load(x + j), mean), inverse);
        store(x + j, fma(flat, load(norm.gain + j), load(norm.bias + j)));
    }
}

/// x <- LayerNorm(x + y + bias), n numbers.
static inline void add_and_norm(float* x, const float* y, const float* bias, const Norm& norm, int n,
                                float epsilon) {
    for (int j = 0; j < n; j += 16) {
        store(x + j, add(add(load(x + j), load(y + j)), load(bias + j)));
    }
    layer_norm(x, norm, n, epsilon);
}

/// The mean of `rows` vectors of n numbers; of none, zeros.
static inline void mean_of_rows(const float* x, int rows, int n, float* out) {
    const Floats share = splat(rows ? 1.0f / rows : 0.0f);
    for (int j = 0; j < n; j += 16) {
        Floats sum = splat(0);
        for (int t = 0; t < rows; t++) sum = add(sum, load(x + (long)t * n + j));
        store(out + j, mul(sum, share));
    }
}

/// x <- x / max(|x|, 1e-12), as torch.nn.functional.normalize.
static inline void normalize(float* x, int n) {
    Floats squares = splat(0);
    for (int j = 0; j < n; j += 16) squares = fma(load(x + j), load(x + j), squares);
    const Floats inverse = splat(1.0f / at_least(std::sqrt(sum_of_lanes(squares)), 1e-12f));
    for (int j = 0; j < n; j += 16) store(x + j, mul(load(x + j), inverse));
}

}  // namespace UNITVEC_TARGET
