#include "model_reader.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace unitvec {
namespace {

constexpr int64_t kMost = 1 << 20;  // of anything that is counted; far more than there are
constexpr int64_t kInt16Levels = 8191;

void require(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string("not a graph of this operator: ") + what);
}

void check(const Attributes& a) {
    require(a.layout == kLayoutVersion, "it was exported for another version of unitvec-kernels");
    for (int64_t n : {a.hidden, a.heads, a.ffn, a.group, a.layers, a.positions}) {
        require(n > 0 && n <= kMost, "a size is out of range");
    }
    require(a.hidden % 64 == 0 && a.ffn % 64 == 0 && a.group % 64 == 0, "a size is no multiple of 64");
    require(a.ffn % a.group == 0, "groups do not fill the feed-forward");
    require(a.hidden == 32 * a.heads || a.hidden == 64 * a.heads, "heads are not of 32 or 64");
    require(a.precision >= 0 && a.precision <= 3, "the precision is unknown");
    require(a.gelu >= 0 && a.gelu <= 1, "the activation is unknown");
    require(a.pooling >= 0 && a.pooling <= 1, "the pooling is unknown");
    require(a.pad_position >= -1 && a.pad_position + 1 < a.positions, "there are no positions");
}

/// Hands out consecutive parts of a constant.
template <class T>
class Reader {
  public:
    explicit Reader(Constant<T> constant) : next_(constant.data), left_(constant.count) {}

    const T* take(size_t count) {
        require(count <= left_, "a constant is too short");
        const T* taken = next_;
        next_ += count, left_ -= count;
        return taken;
    }
    void finish() const { require(left_ == 0, "a constant is too long"); }

  private:
    const T* next_;
    size_t left_;
};

/// Walks over packed weights column by column: visit(group, column, dword).
template <class Visit>
void for_each_dword(const Product& p, int per_dword, const Visit& visit) {
    const int steps = p.rows / p.groups / per_dword;
    const uint32_t* at = p.panels;
    for (int group = 0; group < p.groups; group++) {
        for (int first = 0; first < p.columns; first += kPanelColumns) {
            for (int step = 0; step < steps; step++) {
                for (int c = 0; c < kPanelColumns; c++) visit(group, first + c, *at++);
            }
        }
    }
}

/// int8: what sums start at. -128 would break the products of AVX2, which need |w| <= 127.
void prepare_int8(Product& p) {
    bool has_lowest = false;
    p.column_starts.assign((size_t)p.groups * p.columns, 0);
    for_each_dword(p, 4, [&](int group, int column, uint32_t dword) {
        int sum = 0;
        for (int e = 0; e < 4; e++) {
            const int weight = (int8_t)(dword >> 8 * e);
            sum += weight;
            has_lowest |= weight == -128;
        }
        p.column_starts[(size_t)group * p.columns + column] -= 128 * sum;
    });
    require(!has_lowest, "a weight of int8 is -128");
}

/// int16: magnitudes of a column, times the largest activation, have to stay below 2^31.
void check_int16(const Product& p) {
    std::vector<int64_t> sums((size_t)p.groups * p.columns, 0);
    for_each_dword(p, 2, [&](int group, int column, uint32_t dword) {
        const int low = (int16_t)dword, high = (int16_t)(dword >> 16);
        sums[(size_t)group * p.columns + column] += std::abs(low) + std::abs(high);
    });
    for (int64_t sum : sums) require(sum * kInt16Levels < INT64_C(1) << 31, "sums could overflow");
}

/// bf16: 0, or no less than 2^-50 in magnitude, and finite. generic/precision.h says why.
void check_bf16(const Product& p) {
    constexpr uint32_t kLeastExponent = 127 - 50, kInfinite = 255;
    bool is_in_range = true;
    for_each_dword(p, 2, [&](int, int, uint32_t dword) {
        for (uint32_t number : {dword & 0x7fff, dword >> 16 & 0x7fff}) {
            const uint32_t exponent = number >> 7;
            is_in_range &= number == 0 || (exponent >= kLeastExponent && exponent < kInfinite);
        }
    });
    require(is_in_range, "a weight of bf16 is out of range");
}

struct Readers {
    Reader<float> floats;
    Reader<int8_t> weights;
};

Product read_product(Readers& from, Precision precision, int rows, int columns, int groups) {
    const bool is_integer = precision == Precision::kInt8 || precision == Precision::kInt16;
    const int per_dword = precision == Precision::kInt8 ? 4 : precision == Precision::kFloat32 ? 1 : 2;
    Product p;
    p.rows = rows, p.columns = columns, p.groups = groups;
    const int8_t* bytes = from.weights.take((size_t)rows * columns / per_dword * 4);
    p.panels = reinterpret_cast<const uint32_t*>(bytes);
    if (is_integer) {
        p.scale = from.floats.take((size_t)groups * columns);
        p.smoothing = from.floats.take(rows);
    }
    p.bias = from.floats.take(columns);
    if (precision == Precision::kInt8) prepare_int8(p);
    if (precision == Precision::kInt16) check_int16(p);
    if (precision == Precision::kBf16) check_bf16(p);
    return p;
}

Norm read_norm(Readers& from, int hidden) {
    Norm norm;
    norm.gain = from.floats.take(hidden);
    norm.bias = from.floats.take(hidden);
    return norm;
}

Layer read_layer(Readers& from, const Model& m) {
    Layer layer;
    layer.qkv = read_product(from, m.precision, m.hidden, 3 * m.hidden, 1);
    layer.out = read_product(from, m.precision, m.hidden, m.hidden, 1);
    layer.up = read_product(from, m.precision, m.hidden, m.ffn, 1);
    layer.down = read_product(from, m.precision, m.ffn, m.hidden, m.ffn / m.group);
    layer.attention_norm = read_norm(from, m.hidden);
    layer.output_norm = read_norm(from, m.hidden);
    return layer;
}

}  // namespace

Model read_model(const Attributes& a, const Constants& constants) {
    check(a);
    Model m;
    m.hidden = (int)a.hidden, m.heads = (int)a.heads, m.ffn = (int)a.ffn, m.group = (int)a.group;
    m.positions = (int)a.positions, m.pad_position = (int)a.pad_position;
    m.epsilon = a.epsilon, m.precision = (Precision)a.precision, m.gelu = (Gelu)a.gelu;
    m.pooling = (Pooling)a.pooling, m.normalize = a.normalize != 0;
    const size_t hidden = m.hidden;
    require(constants.words.count % hidden == 0, "the table of words has another width");
    require(constants.words.count / hidden <= 1u << 30, "the table of words is too large");
    m.vocabulary = (int)(constants.words.count / hidden);
    m.word_table = constants.words.data;
    Readers from{Reader<float>(constants.floats), Reader<int8_t>(constants.weights)};
    m.position_table = from.floats.take(m.positions * hidden);
    m.embedding_norm = read_norm(from, m.hidden);
    if (a.relative) m.relative = from.floats.take((size_t)m.heads * kRelativeRow);
    for (int64_t n = 0; n < a.layers; n++) m.layers.push_back(read_layer(from, m));
    from.floats.finish(), from.weights.finish();
    return m;
}

}  // namespace unitvec
