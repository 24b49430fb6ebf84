// The encoder, written once and compiled for each target.
//
// Per layer: queries, keys and values of one head, attention of that head, and so on for all heads;
// output product; add and LayerNorm; then, for a band of tokens and a group of columns at a time,
// up, GELU and down; add and LayerNorm. Nothing wider than a group is ever written to memory.
#pragma once
#include "../memory.h"
#include "../model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <type_traits>

namespace UNITVEC_TARGET {
using unitvec::Buffer;
using unitvec::kMaxTokens;
using unitvec::kPanelColumns;
using unitvec::Layer;
using unitvec::Model;
using unitvec::Norm;
using unitvec::Product;
using unitvec::Texts;
}  // namespace UNITVEC_TARGET

// In this order: each builds on those before it.
#include "math.h"
#include "precision.h"
#include "tiles.h"
#include "rows.h"
#include "results.h"
#include "attention.h"
#include "attention_int16.h"

namespace UNITVEC_TARGET {

/// Tokens whose feed-forward is done at a time. Between 56 and 140 made no difference on Zen 4.
constexpr int kBandTokens = 140;

/// What a thread works in: about 1.5 MB for 256 tokens of 384 numbers. It lives as long as the
/// thread and is as large as its largest run needed.
struct Scratch {
    Buffer<float> x, y;                     // (T, hidden)
    Buffer<float> queries, keys, values;    // (T, size of a head)
    Buffer<float> wide;                     // (kBandTokens, group), after GELU
    Buffer<float> steps, wide_steps;        // of each token
    Buffer<uint32_t> left, wide_left;       // x, or attention's result, and `wide` as left sides
    AttentionScratch attention;

    void reserve(const Model& m, int tokens, int per_dword) {
        const size_t t = tokens, band = std::min(tokens, kBandTokens), size = m.hidden / m.heads;
        x.reserve(t * m.hidden), y.reserve(t * m.hidden), left.reserve(t * m.hidden / per_dword);
        queries.reserve(t * size), keys.reserve(t * size), values.reserve(t * size);
        wide.reserve(band * m.group), wide_left.reserve(band * m.group / per_dword);
        steps.reserve(t), wide_steps.reserve(band);
        attention.reserve(size);
    }
};

/// Panels of one group of a product.
struct Group {
    const Product& product;
    int number;
    int rows() const { return product.rows / product.groups; }
    const uint32_t* panel(int column, int per_dword) const {
        const long group_dwords = (long)rows() / per_dword * product.columns;
        return product.panels + number * group_dwords + (long)column * rows() / per_dword;
    }
    const int32_t* starts(int column) const {
        return product.column_starts.data() + (long)number * product.columns + column;
    }
    const float* scale(int column) const {
        return product.scale + (long)number * product.columns + column;
    }
};

template <class P, int kHeadSize>
class EncoderOf final : public unitvec::Encoder {
  public:
    explicit EncoderOf(Model model) : model_(std::move(model)) {}

    void run(const Texts& texts, float* out) const override {
        thread_local Scratch scratch;
#ifdef UNITVEC_MATRIX_TILES
        const TilesInUse tiles;
#endif
        const int tokens = (int)texts.starts[texts.count];
        scratch.reserve(model_, tokens, P::kPerDword);
        embed(texts, scratch, tokens);
        for (size_t n = 0; n < model_.layers.size(); n++) {
            attend(model_.layers[n], texts, scratch, tokens);
            feed_forward(n, scratch, tokens);
        }
        for (int64_t i = 0; i < texts.count; i++) {
            const float* first = scratch.x.get() + texts.starts[i] * model_.hidden;
            pool(first, (int)(texts.starts[i + 1] - texts.starts[i]), out + i * model_.hidden);
        }
    }

  private:
    static constexpr int kStride = kLineDwords;

    /// Rows of a left side of `rows` rows and `columns` columns, from row `first` on.
    static Left left_of(const Buffer<uint32_t>& data, int first, int rows, int columns) {
        return {data.get() + (long)first * kLineDwords, (long)rows * kLineDwords,
                columns / P::kPerDword / kLineDwords, kLineDwords};
    }

    void write_left(const float* x, const Product& next, Scratch& s, int t, int tokens) const {
        s.steps.get()[t] =
            write_left_row<P>(x, next.smoothing, model_.hidden, s.left.get(), t, tokens);
    }

    void embed(const Texts& texts, Scratch& s, int tokens) const {
        const int hidden = model_.hidden;
        for (int64_t i = 0; i < texts.count; i++) {
            int position = model_.pad_position;
            for (int64_t t = texts.starts[i]; t < texts.starts[i + 1]; t++) {
                const int64_t id = texts.ids[t];
                const bool is_pad = model_.pad_position >= 0 && id == model_.pad_position;
                const long place = is_pad ? model_.pad_position : ++position;
                const float* word = model_.word_table + id * hidden;
                const float* at = model_.position_table + place * hidden;
                float* x = s.x.get() + t * hidden;
                for (int j = 0; j < hidden; j += 16) store(x + j, add(load(word + j), load(at + j)));
                layer_norm(x, model_.embedding_norm, hidden, model_.epsilon);
                write_left(x, model_.layers[0].qkv, s, (int)t, tokens);
            }
        }
    }

    /// x <- LayerNorm(x + attention).
    void attend(const Layer& layer, const Texts& texts, Scratch& s, int tokens) const {
        const int hidden = model_.hidden;
        for (int h = 0; h < model_.heads; h++) {
            project_head(layer, h, s, tokens);
            for (int64_t i = 0; i < texts.count; i++) attend_text(texts, i, h, s, tokens);
        }
        for (int t = 0; t < tokens; t++) {
            write_left(s.y.get() + (long)t * hidden, layer.out, s, t, tokens);
        }
        const Group out{layer.out, 0};
        multiply<Store<P>>(out, left_of(s.left, 0, tokens, hidden), tokens, s.steps.get(),
                           Target{s.y.get(), hidden}, Group{layer.up, 0}.panel(0, P::kPerDword));
        for (int t = 0; t < tokens; t++) {
            float* x = s.x.get() + (long)t * hidden;
            add_and_norm(x, s.y.get() + (long)t * hidden, layer.out.bias, layer.attention_norm,
                         hidden, model_.epsilon);
            write_left(x, layer.up, s, t, tokens);
        }
    }

    /// Queries, keys and values of one head, for all texts.
    void project_head(const Layer& layer, int head, Scratch& s, int tokens) const {
        const Group group{layer.qkv, 0};
        const Left left = left_of(s.left, 0, tokens, model_.hidden);
        const int first = 3 * head * kHeadSize;
        for (int c = 0; c < 3 * kHeadSize; c += kPanelColumns) {
            const int column = first + c, next = column + kPanelColumns;
            const uint32_t* upcoming = next < layer.qkv.columns
                                           ? group.panel(next, P::kPerDword)
                                           : Group{layer.out, 0}.panel(0, P::kPerDword);
            const Panel panel{group.panel(column, P::kPerDword), group.starts(column), upcoming};
            const Scales<P> scales{group.scale(column), s.steps.get()};
            rows_times_panel<P, kStride>(
                left, tokens, panel,
                StoreWithBias<P>{head_target(s, c, tokens), scales, layer.qkv.bias + column});
        }
    }

    /// Where column c of a head's queries, keys and values goes. Values are kept in panels.
    static Target head_target(Scratch& s, int c, int tokens) {
        const int part = c / kHeadSize, within = c % kHeadSize;
        if (part == 0) return {s.queries.get() + within, kHeadSize};
        if (part == 1) return {s.keys.get() + within, kHeadSize};
        return {s.values.get() + (long)within * tokens, kPanelColumns};
    }

    void attend_text(const Texts& texts, int64_t i, int h, Scratch& s, int tokens) const {
        const long t = texts.starts[i];
        const int length = (int)(texts.starts[i + 1] - t);
        if (length == 0) return;
        const Head head{s.queries.get() + t * kHeadSize,
                        s.keys.get() + t * kHeadSize,
                        s.values.get() + t * kPanelColumns,
                        (long)tokens * kPanelColumns,
                        model_.relative ? model_.relative + h * unitvec::kRelativeRow : nullptr,
                        length,
                        s.y.get() + t * model_.hidden + h * kHeadSize,
                        model_.hidden};
        if constexpr (std::is_same_v<P, Float32>) attend_in_float<kHeadSize>(head, s.attention);
        else attend_in_int16<kHeadSize>(head, s.attention);
    }

    /// All columns of one group of a product, without its bias.
    template <class Result>
    void multiply(const Group& group, const Left& left, int rows, const float* row_scales, Target to,
                  const uint32_t* then) const {
        for (int c = 0; c < group.product.columns; c += kPanelColumns) {
            const int next = c + kPanelColumns;
            const uint32_t* upcoming =
                next < group.product.columns ? group.panel(next, P::kPerDword) : then;
            const Panel panel{group.panel(c, P::kPerDword), group.starts(c), upcoming};
            const Scales<P> scales{group.scale(c), row_scales};
            rows_times_panel<P, kStride>(left, rows, panel,
                                         Result{{to.data + c, to.stride}, scales});
        }
    }

    /// x <- LayerNorm(x + down(GELU(up(x)))), in bands of tokens.
    void feed_forward(size_t n, Scratch& s, int tokens) const {
        const Layer& layer = model_.layers[n];
        const bool is_last = n + 1 == model_.layers.size();
        const Layer& next = model_.layers[is_last ? 0 : n + 1];
        const int bands = (tokens + kBandTokens - 1) / kBandTokens, hidden = model_.hidden;
        for (int b = 0, first = 0; b < bands; b++) {
            const int rows = tokens / bands + (b < tokens % bands);
            const Product& then = b + 1 < bands ? layer.up : next.qkv;
            feed_band(layer, s, first, rows, tokens, then);
            first += rows;
        }
        for (int t = 0; t < tokens; t++) {
            float* x = s.x.get() + (long)t * hidden;
            add_and_norm(x, s.y.get() + (long)t * hidden, layer.down.bias, layer.output_norm, hidden,
                         model_.epsilon);
            if (!is_last) write_left(x, next.qkv, s, t, tokens);
        }
    }

    /// y <- down(GELU(up(x))) without the last bias, for one band, group after group of columns.
    void feed_band(const Layer& layer, Scratch& s, int first, int rows, int tokens,
                   const Product& then) const {
        const int group_columns = model_.group, groups = model_.ffn / group_columns;
        const Left left = left_of(s.left, first, tokens, model_.hidden);
        const Target y{s.y.get() + (long)first * model_.hidden, model_.hidden};
        for (int g = 0; g < groups; g++) {
            const Group down{layer.down, g};
            widen(layer, left, s, s.steps.get() + first, rows, g);
            const float* smoothing =
                layer.down.smoothing ? layer.down.smoothing + g * group_columns : nullptr;
            for (int i = 0; i < rows; i++) {
                s.wide_steps.get()[i] =
                    write_left_row<P>(s.wide.get() + (long)i * group_columns, smoothing,
                                      group_columns, s.wide_left.get(), i, rows);
            }
            const Left wide = left_of(s.wide_left, 0, rows, group_columns);
            const uint32_t* upcoming =
                g + 1 < groups ? Group{layer.up, 0}.panel((g + 1) * group_columns, P::kPerDword)
                               : Group{then, 0}.panel(0, P::kPerDword);
            if (g == 0) multiply<Store<P>>(down, wide, rows, s.wide_steps.get(), y, upcoming);
            else multiply<Accumulate<P>>(down, wide, rows, s.wide_steps.get(), y, upcoming);
        }
    }

    /// One group of columns of GELU(up(x)).
    void widen(const Layer& layer, const Left& left, Scratch& s, const float* row_scales, int rows,
               int g) const {
        const Group up{layer.up, 0};
        const float* terms = model_.gelu == unitvec::Gelu::kErf ? kGeluErf : kGeluTanh;
        for (int c = 0; c < model_.group; c += kPanelColumns) {
            const int column = g * model_.group + c;
            const uint32_t* upcoming = c + kPanelColumns < model_.group
                                           ? up.panel(column + kPanelColumns, P::kPerDword)
                                           : Group{layer.down, g}.panel(0, P::kPerDword);
            const Panel panel{up.panel(column, P::kPerDword), up.starts(column), upcoming};
            const Scales<P> scales{up.scale(column), row_scales};
            rows_times_panel<P, kStride>(left, rows, panel,
                                         StoreGelu<P>{{s.wide.get() + c, model_.group},
                                                      scales,
                                                      layer.up.bias + column,
                                                      terms});
        }
    }

    void pool(const float* x, int rows, float* out) const {
        const bool first_only = model_.pooling == unitvec::Pooling::kCls;
        mean_of_rows(x, first_only ? std::min(rows, 1) : rows, model_.hidden, out);
        if (model_.normalize) normalize(out, model_.hidden);
    }

    Model model_;
};

template <class P>
static std::unique_ptr<unitvec::Encoder> make_for_head_size(Model model) {
    if (model.hidden == 32 * model.heads) {
        return std::make_unique<EncoderOf<P, 32>>(std::move(model));
    }
    return std::make_unique<EncoderOf<P, 64>>(std::move(model));
}

static inline std::unique_ptr<unitvec::Encoder> make_encoder(Model model) {
    switch (model.precision) {
        case unitvec::Precision::kInt8: return make_for_head_size<Int8>(std::move(model));
        case unitvec::Precision::kInt16: return make_for_head_size<Int16>(std::move(model));
        case unitvec::Precision::kBf16: return make_for_head_size<Bf16>(std::move(model));
        default: return make_for_head_size<Float32>(std::move(model));
    }
}

}  // namespace UNITVEC_TARGET
