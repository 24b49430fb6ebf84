#include "backends.h"

#include <stdexcept>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace unitvec {

#if defined(__x86_64__)
std::unique_ptr<Encoder> make_avx512(Model);
std::unique_ptr<Encoder> make_avxvnni(Model);
std::unique_ptr<Encoder> make_avx2(Model);

// __builtin_cpu_supports also asks whether the operating system keeps the registers.
static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

static bool has_avxvnni() {
    // GCC 12 does not know this name: leaf 7, sub-leaf 1, bit 4 of EAX.
    unsigned a = 7, b = 0, c = 1, d = 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return has_avx2() && (a >> 4 & 1);
}

static const Backend kBackends[] = {
    {"avx512", "avx512f avx512bw avx512vl avx512dq avx512_vnni", true, has_avx512, make_avx512},
    {"avxvnni", "avx2 fma avx_vnni", true, has_avxvnni, make_avxvnni},
    {"avx2", "avx2 fma", false, has_avx2, make_avx2},
    {},
};
#elif defined(__aarch64__)
std::unique_ptr<Encoder> make_neon(Model);

static bool has_neon() { return getauxval(AT_HWCAP) >> 20 & 1; }  // asimddp

static const Backend kBackends[] = {{"neon", "asimd asimddp", true, has_neon, make_neon}, {}};
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
                     (b->has_dot_products ? "yes" : "no") + "\t" + b->needs + "\n";
        }
        return lines;
    }();
    return text.c_str();
}

}  // namespace unitvec
