// The model as the graph holds it, and what every backend makes of it.
//
// Nothing here owns numbers: all pointers lead into the constants of the graph, which
// onnxruntime keeps as long as the operator lives. The layouts are those of README.md.
#pragma once
#include <cstdint>
#include <vector>

namespace unitvec {

enum class Precision { kFloat32 = 0, kInt8 = 1, kInt16 = 2, kBf16 = 3 };
enum class Gelu { kErf = 0, kTanh = 1 };
enum class Pooling { kMean = 0, kCls = 1 };

constexpr int kMaxTokens = 512;    // of one text
constexpr int kPanelColumns = 32;  // columns of a panel of weights
// Relative positions are kept as kRelativeRow biases a head; that of key j for query i is at
// kMaxTokens + j - i. A panel of keys may end after the text does, hence the spare ones.
constexpr int kRelativeRow = 2 * kMaxTokens + kPanelColumns;

/// X (T, K) @ W (K, N) + bias, where W lies in `groups` blocks of K / groups rows.
struct Product {
    const uint32_t* panels = nullptr;   // [group][panel][dword of K][kPanelColumns]
    const float* scale = nullptr;       // (groups, N): what one step of a weight is worth
    const float* smoothing = nullptr;   // (K,): X is multiplied by it before it is rounded
    const float* bias = nullptr;        // (N,)
    // (groups, N): what sums of int8 start at where a target adds 128 to the left side.
    std::vector<int32_t> column_starts;
    int rows = 0, columns = 0, groups = 1;
};

struct Norm {
    const float* gain = nullptr;  // (hidden,)
    const float* bias = nullptr;  // (hidden,)
};

struct Layer {
    Product qkv;  // columns: for each head its queries, keys and values
    Product out, up, down;
    Norm attention_norm, output_norm;
};

struct Model {
    int hidden = 0, heads = 0, ffn = 0, group = 0, vocabulary = 0, positions = 0;
    // -1: tokens are at 0, 1, 2, ... Else the first is at pad_position + 1, and a token whose id
    // is pad_position stays at pad_position and is not counted, as RoBERTa and MPNet have it.
    int pad_position = -1;
    float epsilon = 0;
    Precision precision = Precision::kFloat32;
    Gelu gelu = Gelu::kErf;
    Pooling pooling = Pooling::kMean;
    bool normalize = true;
    const float* word_table = nullptr;      // (vocabulary, hidden)
    const float* position_table = nullptr;  // (positions, hidden)
    const float* relative = nullptr;        // (heads, kRelativeRow), or null
    Norm embedding_norm;
    std::vector<Layer> layers;

    /// The longest text: positions are counted from pad_position + 1.
    int max_tokens() const {
        const int room = positions - pad_position - 1;
        return room < kMaxTokens ? room : kMaxTokens;
    }
};

/// Texts one after the other, without padding: text i is ids[starts[i]] to ids[starts[i + 1]].
struct Texts {
    const int64_t* ids;
    const int64_t* starts;  // (count + 1,), from 0 to the number of ids
    int64_t count;
};

/// A model made ready for one instruction set.
class Encoder {
  public:
    virtual ~Encoder() = default;
    /// Writes a vector for each text: out (count, hidden). Trusts `texts`; whoever calls has
    /// checked ids and lengths. Safe from many threads at once: each has its own scratch.
    virtual void run(const Texts& texts, float* out) const = 0;
};

}  // namespace unitvec
