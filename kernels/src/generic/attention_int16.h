// Attention in int16, for all but fp32: exact sums, and faster than in floats.
//
//   queries, keys     one scale each for a text: kHeadLevels steps on each side of 0, few enough
//                     that the sum of a head's products stays below 2^31
//   values            one scale for each column of a text, 8191 steps
//   probabilities     one scale for each row, such that they add up to less than 2^31 / 8191
#pragma once

namespace UNITVEC_TARGET {

/// The square root of 2^31 / size, rounded down.
template <int kSize>
constexpr int kHeadLevels = kSize <= 32 ? 8191 : 5792;

/// Rounds (tokens, kSize) to int16 with one scale; returns what a step is worth.
template <int kSize>
static inline float to_shorts(const float* x, int tokens, uint32_t* to) {
    const long n = (long)tokens * kSize;
    Floats peak = splat(0);
    for (long j = 0; j < n; j += 16) peak = max(peak, abs(load(x + j)));
    const float largest = at_least(largest_lane(peak), kTiny);
    const Floats steps = splat(kHeadLevels<kSize> / largest);
    for (long j = 0; j < n; j += 32) {
        // The order within 32 numbers is the same for queries and keys, so products do not mind.
        store_shorts_in_some_order(to + j / 2, nearest(mul(load(x + j), steps)),
                                   nearest(mul(load(x + j + 16), steps)));
    }
    return largest / kHeadLevels<kSize>;
}

/// Rounds 16 columns of values and puts pairs of tokens into dwords; writes what steps are worth.
static inline void pair_values(const float* values, int tokens, uint32_t* to, float* steps_out) {
    Floats peak = splat(kTiny);
    for (int t = 0; t < tokens; t++) peak = max(peak, abs(load(values + (long)t * kPanelColumns)));
    store(steps_out, mul(peak, splat(1.0f / Int16::kLevels)));
    const Floats steps = div(splat(Int16::kLevels), peak);
    for (int t = 0; t < tokens; t += 2) {
        const float* even = values + (long)t * kPanelColumns;
        const Ints low = nearest(mul(load(even), steps));
        const Ints high =
            t + 1 < tokens ? nearest(mul(load(even + kPanelColumns), steps)) : zero_ints();
        store_ints(to + (long)t / 2 * kPanelColumns, pair_shorts(low, high));
    }
}

/// Scores of a row -> probabilities as int16; returns what a step of them is worth.
static inline float to_probabilities(float* scores, int n, float step, uint32_t* to) {
    const float room = 2147483647.0f / Int16::kLevels - 2 - n;  // 1/2 a token is lost to rounding
    const float total = exponentials(scores, n, step);
    const float levels = at_most(room / total, 32767.0f);
    for (int j = 0; j < n; j += 16) {
        store_shorts(to + j / 2, nearest(mul(load(scores + j), splat(levels))));
    }
    return 1.0f / (levels * total);
}

template <int kSize>
static inline void attend_in_int16(const Head& head, AttentionScratch& scratch) {
    constexpr int kDwords = kSize / 2, kStride = kScoreStride / 2;
    const int n = head.tokens, pairs = (n + 1) / 2;
    const float step = to_shorts<kSize>(head.queries, n, scratch.queries.get()) *
                       to_shorts<kSize>(head.keys, n, scratch.keys.get());
    to_key_panels<kDwords>(scratch.keys.get(), n, scratch.key_panels.get());
    const long panel_stride = (long)pairs * kPanelColumns;
    float* value_steps = scratch.value_steps.get();
    for (int c = 0; c < kSize; c += 16) {
        const int panel = c / kPanelColumns, column = c % kPanelColumns;
        pair_values(head.values + panel * head.value_panel_stride + column, n,
                    scratch.value_panels.get() + panel * panel_stride + column, value_steps + c);
    }
    in_tiles(n, [&](int, int first, int rows) {
        score<Int16, kDwords>(head, first, rows, scratch.queries.get(), step, scratch);
        float probability_steps[kTileRows];
        for (int i = 0; i < rows; i++) {
            // With relative biases, scores are in units of log 2 already.
            probability_steps[i] = to_probabilities(
                scratch.scores.get() + i * kScoreStride, n, head.relative ? 1 : step,
                scratch.probabilities.get() + i * kStride);
        }
        const Left weights{scratch.probabilities.get(), 0, 1, pairs};
        float* out = head.out + (long)first * head.out_stride;
        weigh_values<Int16, kSize, kStride>(
            rows, weights, scratch.value_panels.get(), panel_stride,
            [&](int row, int c, Floats x) {
                const Floats scaled = mul(mul(x, load(value_steps + c)), splat(probability_steps[row]));
                store(out + (long)row * head.out_stride + c, scaled);
            });
    });
}

}  // namespace UNITVEC_TARGET
