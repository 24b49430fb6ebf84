// What becomes of the sums of a tile: 16 of them at a time are scaled and stored.
#pragma once

namespace UNITVEC_TARGET {

/// What sums of one product are worth: by column, and by row of the left side.
template <class P>
struct Scales {
    const float* columns;
    const float* rows;

    Floats apply(Floats sums, int row, int column) const {
        if constexpr (P::kLevels == 0) return sums;
        return mul(mul(sums, load(columns + column)), splat(rows[row]));
    }
    Floats apply_and_add(Floats sums, int row, int column, Floats other) const {
        if constexpr (P::kLevels == 0) return add(sums, other);
        return fma(mul(sums, load(columns + column)), splat(rows[row]), other);
    }
    Scales from_column(int column) const { return {columns + column, rows}; }
};

/// Rows of a result, `stride` floats apart.
struct Target {
    float* data;
    long stride;
    float* at(int row, int column) const { return data + row * stride + column; }
};

template <class P>
struct Store {
    Target to;
    Scales<P> scales;
    void operator()(int row, int column, Floats sums) const {
        store(to.at(row, column), scales.apply(sums, row, column));
    }
};

template <class P>
struct Accumulate {
    Target to;
    Scales<P> scales;
    void operator()(int row, int column, Floats sums) const {
        float* at = to.at(row, column);
        store(at, scales.apply_and_add(sums, row, column, load(at)));
    }
};

template <class P>
struct StoreWithBias {
    Target to;
    Scales<P> scales;
    const float* bias;
    void operator()(int row, int column, Floats sums) const {
        const Floats value = scales.apply_and_add(sums, row, column, load(bias + column));
        store(to.at(row, column), value);
    }
};

template <class P>
struct StoreGelu {
    Target to;
    Scales<P> scales;
    const float* bias;
    const float* terms;
    void operator()(int row, int column, Floats sums) const {
        const Floats value = scales.apply_and_add(sums, row, column, load(bias + column));
        store(to.at(row, column), gelu(value, terms));
    }
};

}  // namespace UNITVEC_TARGET
