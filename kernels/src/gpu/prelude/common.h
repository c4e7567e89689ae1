// What all flavours share. Sums and maxima of 32 lanes are written out as the butterfly, so that every flavour adds in
// the same order; every lane gets the result.
inline float k_sum(float v) {
    v += K_XOR(v, 1);
    v += K_XOR(v, 2);
    v += K_XOR(v, 4);
    v += K_XOR(v, 8);
    v += K_XOR(v, 16);
    return v;
}

// The sum of four numbers of each of 8 lanes, likewise.
inline float k_sum_8(float a, float b, float c, float d) {
    float v = (a + b) + (c + d);
    v += K_XOR(v, 1);
    v += K_XOR(v, 2);
    v += K_XOR(v, 4);
    return v;
}

inline float k_sigmoid(float x) { return 1.0f / (1.0f + K_EXP(-x)); }

inline float k_silu(float x) { return x * k_sigmoid(x); }

// ln(1 + e^x) without overflow.
inline float k_softplus(float x) {
    return (x > 0.0f ? x : 0.0f) + K_LOG(1.0f + K_EXP(x > 0.0f ? -x : x));
}

// `E` numbers that are loaded at once.
template <typename T, int E>
struct alignas(sizeof(T) * E) k_pack {
    T v[E];
};

#define K_LOAD(T, E, from, at) (*reinterpret_cast<const K_DEVICE k_pack<T, E>*>((from) + (at)))
