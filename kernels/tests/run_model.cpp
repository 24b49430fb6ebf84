// Runs a model without onnxruntime: run_model BACKEND < model > vectors
//
// For backends that only an emulator runs. Input: the integers of `Attributes` in their order, then
// epsilon; then the counts of words, floats, weights, ids and starts; then these five arrays.
#include "../src/backends.h"
#include "../src/model_reader.h"

#include <cstdio>
#include <stdexcept>
#include <vector>

template <class T>
static std::vector<T> read(size_t count) {
    std::vector<T> numbers(count);
    if (std::fread(numbers.data(), sizeof(T), count, stdin) != count) {
        throw std::runtime_error("the input is too short");
    }
    return numbers;
}

int main(int, char** arguments) try {
    using namespace unitvec;
    const std::vector<int64_t> integers = read<int64_t>(13);
    Attributes a;
    int64_t* fields[] = {&a.layout,   &a.hidden, &a.heads,     &a.ffn,  &a.group,   &a.layers,  &a.positions,
                         &a.pad_position, &a.relative, &a.precision, &a.gelu, &a.pooling, &a.normalize};
    for (size_t i = 0; i < integers.size(); i++) *fields[i] = integers[i];
    a.epsilon = read<float>(1)[0];
    const std::vector<int64_t> counts = read<int64_t>(5);
    const std::vector<float> words = read<float>(counts[0]), floats = read<float>(counts[1]);
    const std::vector<int8_t> weights = read<int8_t>(counts[2]);
    const std::vector<int64_t> ids = read<int64_t>(counts[3]), starts = read<int64_t>(counts[4]);
    Model model = read_model(a, {{words.data(), words.size()},
                                 {floats.data(), floats.size()},
                                 {weights.data(), weights.size()}});
    std::vector<float> out((starts.size() - 1) * model.hidden);
    const Texts texts{ids.data(), starts.data(), (int64_t)starts.size() - 1};
    choose_backend(arguments[1]).make(std::move(model))->run(texts, out.data());
    std::fwrite(out.data(), sizeof(float), out.size(), stdout);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "run_model: %s\n", error.what());
    return 1;
}
