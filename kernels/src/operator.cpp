// The operator `unitvec:Encoder` as onnxruntime sees it.
//
//   inputs      input_ids (T,) int64: the tokens of all texts, one text after the other
//               starts (B + 1,) int64: where each text begins, and T
//               words float, floats float, weights int8: constants, laid out as in README.md
//   output      embeddings (B, hidden) float32
//   attributes  those of `Attributes` in model_reader.h
//
// The instruction set is chosen when a session is created: the fastest one of this CPU, or the one
// that the environment variable UNITVEC_ISA names.
#include "backends.h"
#include "model_reader.h"
#include "ort_abi.h"

#include <cstdlib>

namespace unitvec {
namespace {

struct Kernel {
    Ort ort;
    int vocabulary, max_tokens, dimension;
    std::unique_ptr<Encoder> encoder;
};

Attributes read_attributes(const Ort& ort, const OrtKernelInfo* info) {
    Attributes a;
    const struct {
        const char* name;
        int64_t* to;
    } integers[] = {
        {"layout", &a.layout},     {"hidden", &a.hidden},       {"heads", &a.heads},
        {"ffn", &a.ffn},           {"group", &a.group},         {"layers", &a.layers},
        {"positions", &a.positions}, {"pad_position", &a.pad_position}, {"relative", &a.relative},
        {"precision", &a.precision}, {"gelu", &a.gelu},         {"pooling", &a.pooling},
        {"normalize", &a.normalize},
    };
    for (const auto& integer : integers) *integer.to = ort.integer(info, integer.name);
    a.epsilon = ort.number(info, "epsilon");
    return a;
}

template <class T>
Constant<T> read_constant(const Ort& ort, const OrtKernelInfo* info, size_t index) {
    const OrtValue* value = ort.constant(info, index);
    if (!value) throw std::runtime_error("words, floats and weights must be constants");
    return {ort.data<T>(value), ort.count(value)};
}

OrtStatus* create(const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
    const Ort ort(api);
    try {
        const Constants constants{read_constant<float>(ort, info, 2), read_constant<float>(ort, info, 3),
                                  read_constant<int8_t>(ort, info, 4)};
        Model model = read_model(read_attributes(ort, info), constants);
        const char* wanted = std::getenv("UNITVEC_ISA");
        const Backend& backend = choose_backend(wanted ? wanted : "");
        const int vocabulary = model.vocabulary, max_tokens = model.max_tokens();
        const int dimension = model.hidden;
        *kernel = new Kernel{ort, vocabulary, max_tokens, dimension, backend.make(std::move(model))};
        return nullptr;
    } catch (const std::exception& error) {
        return ort.failure(error.what());
    }
}

/// Throws unless every text lies within `ids` and every id within the vocabulary.
void check(const Kernel& kernel, const Texts& texts, int64_t tokens) {
    if (texts.count < 0 || texts.starts[0] != 0 || texts.starts[texts.count] != tokens) {
        throw std::runtime_error("starts must go from 0 to the number of ids");
    }
    if (tokens > INT32_MAX) throw std::runtime_error("too many ids in one run");
    for (int64_t i = 0; i < texts.count; i++) {
        const int64_t from = texts.starts[i], to = texts.starts[i + 1];
        // Checked before the difference is taken, which could leave 64 bits.
        if (from > to || from < 0 || to > tokens) throw std::runtime_error("starts must not fall");
        if (to - from > kernel.max_tokens) throw std::runtime_error("a text is too long");
    }
    for (int64_t t = 0; t < tokens; t++) {
        if (texts.ids[t] < 0 || texts.ids[t] >= kernel.vocabulary) {
            throw std::runtime_error("an id is not in the vocabulary");
        }
    }
}

OrtStatus* compute(void* raw, OrtKernelContext* context) {
    const Kernel& kernel = *static_cast<const Kernel*>(raw);
    const Ort& ort = kernel.ort;
    try {
        const OrtValue *ids = ort.input(context, 0), *starts = ort.input(context, 1);
        const Texts texts{ort.data<int64_t>(ids), ort.data<int64_t>(starts),
                          (int64_t)ort.count(starts) - 1};
        check(kernel, texts, (int64_t)ort.count(ids));
        kernel.encoder->run(texts, ort.new_output(context, texts.count, kernel.dimension));
        return nullptr;
    } catch (const std::exception& error) {
        return ort.failure(error.what());
    }
}

OrtCustomOp describe_operator() {
    OrtCustomOp op{};
    op.version = kOrtApiVersion;
    op.GetName = [](const OrtCustomOp*) { return "Encoder"; };
    op.GetExecutionProviderType = [](const OrtCustomOp*) { return (const char*)nullptr; };  // CPU
    op.GetInputType = [](const OrtCustomOp*, size_t i) -> int {
        return i < 2 ? kOrtInt64 : i < 4 ? kOrtFloat : kOrtInt8;
    };
    op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 5; };
    op.GetOutputType = [](const OrtCustomOp*, size_t) -> int { return kOrtFloat; };
    op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
    op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return 0; };
    op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return 0; };
    op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };
    op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
    op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
    op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    op.CreateKernelV2 = create;
    op.KernelComputeV2 = compute;
    return op;
}

}  // namespace
}  // namespace unitvec

#define UNITVEC_EXPORT extern "C" __attribute__((visibility("default")))

/// What SessionOptions.register_custom_ops_library calls.
UNITVEC_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    const OrtApi* api = base->GetApi(kOrtApiVersion);
    if (!api) return Ort(base->GetApi(1)).failure("onnxruntime is older than 1.16");
    const Ort ort(api);
    try {
        static const OrtCustomOp op = unitvec::describe_operator();
        static OrtCustomOpDomain* const domain = ort.new_domain("unitvec", &op);
        ort.add_domain(options, domain);
        return nullptr;
    } catch (const std::exception& error) {
        return ort.failure(error.what());
    }
}

/// What unitvec_kernels/__init__.py reads: see describe_backends in backends.h.
UNITVEC_EXPORT const char* unitvec_backends() { return unitvec::describe_backends(); }
