// Powers of two and GELU, lane by lane.
//
// Every operation is an IEEE one: no estimates of reciprocals, and a multiplication is fused with
// an addition where `fma` says so and nowhere else (-ffp-contract=off). So the same calls give the
// same bits on every target.
#pragma once

namespace UNITVEC_TARGET {

/// 2^x for x <= 0; below -126 it is 2^-126. The relative error is at most 2e-7.
static inline Floats power_of_two(Floats x) {
    x = max(x, splat(-126.0f));
    const Ints whole = nearest(x);
    const Floats rest = sub(x, to_floats(whole));  // [-1/2, 1/2]
    Floats p = splat(1.327646441e-03f);
    p = fma(p, rest, splat(9.675541706e-03f));
    p = fma(p, rest, splat(5.550713301e-02f));
    p = fma(p, rest, splat(2.402211972e-01f));
    p = fma(p, rest, splat(6.931469670e-01f));
    p = fma(p, rest, splat(1.000000072e+00f));
    return scale_by_power(p, whole);
}

// GELU(x) = x * (1/2 + t * Q(z)), t = x cut to [-5, 5], z = t^2 * 2/25 - 1. These are the
// coefficients of Q as tools/fit_gelu.py finds them; the largest error of GELU is 1.5e-6 in float.
constexpr int kGeluTerms = 13;
static const float kGeluErf[kGeluTerms] = {
    1.413637847e-01f, -7.029665262e-02f, 5.152142048e-02f, -4.043294862e-02f, 3.142622858e-02f,
    -2.333673090e-02f, 1.649765670e-02f, -1.097323280e-02f, 6.165430415e-03f, -2.915672027e-03f,
    2.001860412e-03f, -1.514154254e-03f, 4.929695278e-04f};
static const float kGeluTanh[kGeluTerms] = {
    1.413785070e-01f, -7.036592811e-02f, 5.165765062e-02f, -4.053898528e-02f, 3.134069592e-02f,
    -2.303162031e-02f, 1.607178338e-02f, -1.043611579e-02f, 5.713622086e-03f, -3.061607946e-03f,
    2.684109379e-03f, -2.036916791e-03f, 6.248118007e-04f};

static inline Floats gelu(Floats x, const float* terms) {
    const Floats t = min(max(x, splat(-5.0f)), splat(5.0f));
    const Floats z = fma(mul(t, t), splat(0.08f), splat(-1.0f));
    Floats q = splat(terms[kGeluTerms - 1]);
    for (int k = kGeluTerms - 2; k >= 0; k--) q = fma(q, z, splat(terms[k]));
    return mul(x, fma(t, q, splat(0.5f)));
}

}  // namespace UNITVEC_TARGET
