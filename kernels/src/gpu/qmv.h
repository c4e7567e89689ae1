// Sixteen rows of sixteen weights times sixteen numbers of eight vectors, on the tensor cores; adds to `c`.
inline void q_mma(float (&c)[4], uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The nibbles of a word's two halves that come last, each in the last bits of a bf16 128: `w & 0x000f000f | 0x43004300` in
// one operation, which the compiler makes two of.
inline uint q_two(uint w) {
    uint two;
    asm("lop3.b32 %0, %1, 0x000f000f, 0x43004300, 0xea;" : "=r"(two) : "r"(w));
    return two;
}

// Two weights of a word as bf16, rounded once: scale q + bias.
inline uint q_weights(uint w, uint scale, uint bias) {
    uint weights;
    asm("{.reg .b32 q; sub.rn.bf16x2 q, %1, %4; fma.rn.bf16x2 %0, q, %2, %3;}"
        : "=r"(weights)
        : "r"(q_two(w)), "r"(scale), "r"(bias), "r"(0x43004300u));
    return weights;
}

// Two of a word's bytes, twice.
inline uint q_both(uint word, uint bytes) {
    uint both;
    asm("prmt.b32 %0, %1, 0, %2;" : "=r"(both) : "r"(word), "r"(bytes));
    return both;
}

// A barrier of some of a group's threads.
inline void q_meet(uint barrier, uint threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Sixteen bytes to shared memory, past the registers, or zeros; they have come once q_wait says so.
inline void q_copy(void* to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
        :
        : "r"(uint(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 16 : 0)
        : "memory");
}

// Ends a batch of copies.
inline void q_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all batches of this lane but the last N.
template <int N>
inline void q_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// One of the matrices of a launch, and the tile of it that is meant.
template <typename S, typename Y>
struct qmv_matrix {
    const uint* w;
    const S* steps;
    Y* y;
    uint rows;
    uint tile;
};
