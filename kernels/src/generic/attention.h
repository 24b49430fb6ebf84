// Attention of one head over one text: softmax(Q K^T + relative) V.
//
// Scores come in units of log 2: export multiplies the weights of queries by log2(e) / sqrt(size of
// a head), so that softmax takes powers of two.
//
// Rows of scores are made, turned into probabilities and multiplied with the values tile by tile,
// so that they never leave the first level of cache.
#pragma once

namespace UNITVEC_TARGET {

constexpr int kScoreStride = kMaxTokens + 16;  // floats between rows of scores

/// One head of one text, kSize numbers a token.
struct Head {
    const float* queries;      // (tokens, kSize)
    const float* keys;         // (tokens, kSize)
    const float* values;       // panels of kPanelColumns columns: [panel][token][column]
    long value_panel_stride;   // in floats
    const float* relative;     // kRelativeRow biases, or null
    int tokens;
    float* out;
    int out_stride;
};

struct AttentionScratch {
    Buffer<float> scores, value_steps;
    Buffer<uint32_t> queries, keys, key_panels, value_panels, probabilities;

    void reserve(int head_size) {
        const size_t tokens = kMaxTokens + kPanelColumns, size = head_size;
        scores.reserve(kTileRows * kScoreStride);
        value_steps.reserve(size);
        queries.reserve(tokens * size), keys.reserve(tokens * size);
        key_panels.reserve(tokens * size), value_panels.reserve(tokens * size);
        probabilities.reserve(kTileRows * kScoreStride / 2);
    }
};

static inline const uint32_t* as_dwords(const float* p) {
    return reinterpret_cast<const uint32_t*>(p);
}

/// Keys (tokens, kDwords) as panels [32 keys][dword][key], zero beyond the last.
template <int kDwords>
static inline void to_key_panels(const uint32_t* keys, int tokens, uint32_t* panels) {
    for (int first = 0; first < tokens; first += kPanelColumns) {
        uint32_t* panel = panels + (long)first * kDwords;
        for (int key = 0; key < kPanelColumns; key += 16) {
            for (int d = 0; d < kDwords; d += 16) {
                transpose(keys + (long)(first + key) * kDwords + d, kDwords, tokens - first - key,
                          panel + d * kPanelColumns + key, kPanelColumns);
            }
        }
    }
}

/// Puts scores into their row: as they are, or in units of log 2 with the relative bias.
struct StoreScores {
    float* scores;
    const float* relative;  // of the tile's first query and the panel's first key, or null
    float step;
    void operator()(int row, int column, Floats x) const {
        if (relative) x = fma(x, splat(step), load(relative - row + column));
        store(scores + row * kScoreStride + column, x);
    }
};

/// All scores of a tile of queries.
template <class P, int kDwords>
static inline void score(const Head& head, int first, int rows, const uint32_t* queries, float step,
                         AttentionScratch& scratch) {
    const Left left{queries + (long)first * kDwords, 0, 1, kDwords};
    for (int key = 0; key < head.tokens; key += kPanelColumns) {
        const float* relative = head.relative ? head.relative + kMaxTokens + key - first : nullptr;
        tile_times_panel<P, kDwords>(rows, left, scratch.key_panels.get() + (long)key * kDwords,
                                     StoreScores{scratch.scores.get() + key, relative, step});
    }
}

/// A row of n scores -> 2^(step * (score - largest)), zero up to a multiple of 16; returns the sum.
static inline float exponentials(float* row, int n, float step) {
    const int last = (n - 1) / 16 * 16;
    Floats peak = keep_first(load(row + last), n - last, -3e38f);
    for (int j = 0; j < last; j += 16) peak = max(peak, load(row + j));
    const Floats factor = splat(step), shift = splat(-step * largest_lane(peak));
    Floats total = splat(0);
    for (int j = 0; j <= last; j += 16) {
        Floats e = power_of_two(fma(load(row + j), factor, shift));
        if (j == last) e = keep_first(e, n - last, 0);
        total = add(total, e);
        store(row + j, e);
    }
    return sum_of_lanes(total);
}

/// Values, weighted: done(row of the tile, column of the head, 16 sums).
template <class P, int kSize, int kStride, class Done>
static inline void weigh_values(int rows, const Left& weights, const uint32_t* values,
                                long panel_stride, const Done& done) {
    for (int c = 0; c < kSize; c += kPanelColumns) {
        tile_times_panel<P, kStride>(rows, weights, values + c / kPanelColumns * panel_stride,
                                     [&](int row, int v, Floats x) { done(row, c + v, x); });
    }
}

/// In floats.
template <int kSize>
static inline void attend_in_float(const Head& head, AttentionScratch& scratch) {
    const int n = head.tokens;
    to_key_panels<kSize>(as_dwords(head.keys), n, scratch.key_panels.get());
    float* scores = scratch.scores.get();
    in_tiles(n, [&](int, int first, int rows) {
        score<Float32, kSize>(head, first, rows, as_dwords(head.queries), 1, scratch);
        float inverse[kTileRows];
        for (int i = 0; i < rows; i++) inverse[i] = 1.0f / exponentials(scores + i * kScoreStride, n, 1);
        const Left weights{as_dwords(scores), 0, 1, n};
        float* out = head.out + (long)first * head.out_stride;
        weigh_values<Float32, kSize, kScoreStride>(
            rows, weights, as_dwords(head.values), head.value_panel_stride,
            [&](int row, int c, Floats x) {
                store(out + (long)row * head.out_stride + c, mul(x, splat(inverse[row])));
            });
    });
}

}  // namespace UNITVEC_TARGET
