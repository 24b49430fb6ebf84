// From the constants of a graph to a model, with every size and every number checked that memory
// or exact sums depend on.
#pragma once
#include "model.h"

#include <cstddef>

namespace unitvec {

constexpr int64_t kLayoutVersion = 1;  // of the constants; export writes it into the graph

/// A constant of the graph.
template <class T>
struct Constant {
    const T* data = nullptr;
    size_t count = 0;
};

/// What a graph says of its model, by the names of the operator's attributes.
struct Attributes {
    int64_t layout = 0, hidden = 0, heads = 0, ffn = 0, group = 0, layers = 0, positions = 0;
    int64_t pad_position = -1, relative = 0, precision = 0, gelu = 0, pooling = 0, normalize = 1;
    float epsilon = 0;
};

/// Constants in the order of README.md: the table of words, all other floats, packed weights.
struct Constants {
    Constant<float> words, floats;
    Constant<int8_t> weights;
};

/// Throws std::runtime_error: the graph is not one that export writes.
Model read_model(const Attributes& attributes, const Constants& constants);

}  // namespace unitvec
