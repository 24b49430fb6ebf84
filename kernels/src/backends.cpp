#include "backends.h"

#include <cstdint>
#include <stdexcept>
#if defined(__aarch64__)
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace unitvec {

#if defined(__x86_64__)
std::unique_ptr<Encoder> make_avx512(Model);
std::unique_ptr<Encoder> make_avx512bf16(Model);
std::unique_ptr<Encoder> make_avxvnni(Model);
std::unique_ptr<Encoder> make_avx2(Model);
std::unique_ptr<Encoder> make_amx(Model);
#ifdef UNITVEC_TESTS
std::unique_ptr<Encoder> make_amx_emulated(Model);
#endif

// __builtin_cpu_supports also asks whether the operating system keeps the registers.
static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

/// What CPUID says of extended features: EAX, EBX, ECX and EDX of leaf 7.
struct Features {
    unsigned a = 7, b = 0, c, d = 0;
    explicit Features(unsigned sub_leaf) : c(sub_leaf) {
        __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    }
};

// GCC 12 does not know the names of the next two.
static bool has_avxvnni() { return has_avx2() && (Features(1).a >> 4 & 1); }

// From Linux's asm/prctl.h, which older systems lack: the state of the tiles is a feature of its own
// that the kernel knows, and that a process asks for before the first use.
constexpr int kGetFeatures = 0x1021, kAskForFeature = 0x1023, kTiles = 18;

static bool has_amx() {
    const unsigned found = has_avx512() ? Features(0).d : 0;
    constexpr unsigned kNeeded = 1 << 22 | 1 << 24 | 1 << 25;  // bf16, tiles, int8
    uint64_t known = 0;
    return (found & kNeeded) == kNeeded && syscall(SYS_arch_prctl, kGetFeatures, &known) == 0 &&
           (known >> kTiles & 1);
}

/// AVX-512, with products of bf16 where the CPU has them, as from Cooper Lake and Zen 4 on.
static std::unique_ptr<Encoder> make_with_bf16(Model model) {
    const bool is_needed = model.precision == Precision::kBf16;
    const auto make = is_needed && __builtin_cpu_supports("avx512bf16") ? make_avx512bf16 : make_avx512;
    return make(std::move(model));
}

static std::unique_ptr<Encoder> make_with_tiles(Model model) {
    if (syscall(SYS_arch_prctl, kAskForFeature, kTiles) != 0) {
        throw std::runtime_error("the kernel refuses the tiles of AMX to this process; "
                                 "take UNITVEC_ISA=avx512");
    }
    return make_amx(std::move(model));
}

static const Backend kBackends[] = {
    {"avx512", "avx512f avx512bw avx512vl avx512dq avx512_vnni", has_avx512, make_with_bf16},
    {"avxvnni", "avx2 fma avx_vnni", has_avxvnni, make_avxvnni},
    {"avx2", "avx2 fma", has_avx2, make_avx2},
    // Nobody has measured it yet. Behind avx512, which such CPUs have too, it runs on request alone.
    {"amx", "avx512f avx512bw avx512vl avx512dq avx512_vnni amx_tile amx_int8 amx_bf16",
     has_amx, make_with_tiles},
#ifdef UNITVEC_TESTS
    {"amx_emulated", "the same as avx512", has_avx512, make_amx_emulated},
    {"avx512_alone", "the same as avx512", has_avx512, make_avx512},
#endif
    {},
};
#elif defined(__aarch64__)
std::unique_ptr<Encoder> make_neon(Model);

static bool has_neon() { return getauxval(AT_HWCAP) >> 20 & 1; }  // asimddp

static const Backend kBackends[] = {{"neon", "asimd asimddp", has_neon, make_neon}, {}};
#else
static const Backend kBackends[] = {{}};
#endif

const Backend* all_backends() { return kBackends; }

const Backend& choose_backend(const std::string& name) {
    std::string names;
    for (const Backend* b = all_backends(); b->name; b++) {
        const bool is_meant = name.empty() || name == b->name;
        if (is_meant && b->is_supported()) return *b;
        if (is_meant && !name.empty()) {
            throw std::runtime_error("this CPU lacks what " + name + " needs: " + b->needs);
        }
        names += std::string(names.empty() ? "" : ", ") + b->name;
    }
    if (name.empty()) throw std::runtime_error("this CPU can run none of: " + names);
    throw std::runtime_error("there is no instruction set " + name + "; there are: " + names);
}

const char* describe_backends() {
    static const std::string text = [] {
        std::string lines;
        for (const Backend* b = all_backends(); b->name; b++) {
            lines += std::string(b->name) + "\t" + (b->is_supported() ? "yes" : "no") + "\t" +
                     b->needs + "\n";
        }
        return lines;
    }();
    return text.c_str();
}

}  // namespace unitvec
