// The part of onnxruntime's C ABI that a custom operator needs, declared by hand.
//
// OrtApi is a table of functions that is only ever added to, so a function's place in it never
// changes: places 0 to 101 are those of version 1 (2019), 249 came with 1.14. A library asks for
// version N by GetApi(N) and gets null from an older onnxruntime. The places were compared with
// version 1 of onnxruntime_c_api.h and two published listings of later ones, and run with
// onnxruntime 1.16.3, 1.20.1 and 1.31.1. So there is nothing to install to build but a compiler.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

extern "C" {
struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtValue;
struct OrtTensorInfo;

constexpr uint32_t kOrtApiVersion = 16;  // onnxruntime 1.16: operators that return a status

struct OrtApi {
    void* functions[250];
};
struct OrtApiBase {
    const OrtApi* (*GetApi)(uint32_t version);
    const char* (*GetVersionString)();
};

enum { kOrtFail = 1 };
enum { kOrtFloat = 1, kOrtInt8 = 3, kOrtInt64 = 7 };

struct OrtCustomOp {
    uint32_t version;
    void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
    const char* (*GetName)(const OrtCustomOp*);
    const char* (*GetExecutionProviderType)(const OrtCustomOp*);
    int (*GetInputType)(const OrtCustomOp*, size_t);
    size_t (*GetInputTypeCount)(const OrtCustomOp*);
    int (*GetOutputType)(const OrtCustomOp*, size_t);
    size_t (*GetOutputTypeCount)(const OrtCustomOp*);
    void (*KernelCompute)(void*, OrtKernelContext*);
    void (*KernelDestroy)(void*);
    int (*GetInputCharacteristic)(const OrtCustomOp*, size_t);   // 0: required
    int (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);  // 0: required
    int (*GetInputMemoryType)(const OrtCustomOp*, size_t);       // 0: default
    int (*GetVariadicInputMinArity)(const OrtCustomOp*);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
    OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
    OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
    void* later[8];  // not read from an operator of version 16
};
}

/// Calls of the table's functions, with errors as exceptions.
class Ort {
  public:
    explicit Ort(const OrtApi* api) : api_(api) {}

    OrtStatus* failure(const char* message) const {
        return call<kCreateStatus, OrtStatus*>(static_cast<int>(kOrtFail), message);
    }
    int64_t integer(const OrtKernelInfo* info, const char* name) const {
        int64_t value = 0;
        check<kAttributeInt64>(info, name, &value);
        return value;
    }
    float number(const OrtKernelInfo* info, const char* name) const {
        float value = 0;
        check<kAttributeFloat>(info, name, &value);
        return value;
    }
    /// A constant input of the operator; null if it is not constant.
    const OrtValue* constant(const OrtKernelInfo* info, size_t index) const {
        int is_constant = 0;
        const OrtValue* value = nullptr;
        check<kConstantInput>(info, index, &is_constant, &value);
        return is_constant ? value : nullptr;
    }
    const OrtValue* input(const OrtKernelContext* context, size_t index) const {
        const OrtValue* value = nullptr;
        check<kGetInput>(context, index, &value);
        return value;
    }
    float* new_output(OrtKernelContext* context, int64_t rows, int64_t columns) const {
        const int64_t shape[2] = {rows, columns};
        OrtValue* value = nullptr;
        check<kGetOutput>(context, size_t{0}, static_cast<const int64_t*>(shape), size_t{2}, &value);
        return const_cast<float*>(data<float>(value));
    }
    template <class T>
    const T* data(const OrtValue* value) const {
        void* data = nullptr;
        check<kTensorData>(value, &data);
        return static_cast<const T*>(data);
    }
    size_t count(const OrtValue* value) const {
        OrtTensorInfo* info = nullptr;
        check<kTensorInfo>(value, &info);
        size_t count = 0;
        OrtStatus* status = call<kElementCount, OrtStatus*>(static_cast<const OrtTensorInfo*>(info), &count);
        call<kReleaseTensorInfo, void>(info);
        throw_if(status);
        return count;
    }
    /// A domain of operators with one in it; both must outlive all sessions.
    OrtCustomOpDomain* new_domain(const char* name, const OrtCustomOp* op) const {
        OrtCustomOpDomain* domain = nullptr;
        check<kCreateDomain>(name, &domain);
        check<kAddToDomain>(domain, op);
        return domain;
    }
    void add_domain(OrtSessionOptions* options, OrtCustomOpDomain* domain) const {
        check<kAddDomain>(options, domain);
    }

  private:
    enum Place {
        kCreateStatus = 0,
        kErrorMessage = 2,
        kCreateDomain = 26,
        kAddToDomain = 27,
        kAddDomain = 28,
        kTensorData = 51,
        kElementCount = 64,
        kTensorInfo = 65,
        kAttributeFloat = 85,
        kAttributeInt64 = 86,
        kGetInput = 90,
        kGetOutput = 91,
        kReleaseStatus = 93,
        kReleaseTensorInfo = 99,
        kConstantInput = 249,
    };

    template <Place kPlace, class Result, class... Arguments>
    Result call(Arguments... arguments) const {
        return reinterpret_cast<Result (*)(Arguments...)>(api_->functions[kPlace])(arguments...);
    }
    template <Place kPlace, class... Arguments>
    void check(Arguments... arguments) const {
        throw_if(call<kPlace, OrtStatus*>(arguments...));
    }
    void throw_if(OrtStatus* status) const {
        if (!status) return;
        const std::string message = call<kErrorMessage, const char*>(static_cast<const OrtStatus*>(status));
        call<kReleaseStatus, void>(status);
        throw std::runtime_error(message);
    }

    const OrtApi* api_;
};
