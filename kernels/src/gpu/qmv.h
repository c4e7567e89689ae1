// Sixteen rows of sixteen weights times sixteen numbers of eight vectors, on the tensor cores; adds to `c`.
inline void q_mma(float (&c)[4], uint a0, uint a1, uint a2, uint a3, uint b0, uint b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Sixteen bytes to shared memory, past the registers; they have come once q_wait says so.
inline void q_copy(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
        :
        : "r"(uint(__cvta_generic_to_shared(to))), "l"(from)
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
