// Sixteen rows of sixteen numbers times sixteen numbers of eight vectors, on the tensor cores; adds to `c`.
inline void t_mma(float (&c)[4], const uint (&a)[4], uint b0, uint b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four matrices of eight rows of eight numbers from shared memory; lane `l` gives the place of row `l % 8` of matrix `l / 8`.
inline void t_load(uint (&to)[4], uint at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "r"(at)
        : "memory");
}

// The same, each matrix transposed.
inline void t_load_turned(uint (&to)[4], uint at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "r"(at)
        : "memory");
}

// A matrix of eight rows of eight numbers, two of them a lane, transposed.
inline uint t_turned(uint pair) {
    uint turned;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(pair));
    return turned;
}

// Two numbers as bf16, the first in the lower half.
inline uint t_pair(float low, float high) {
    uint pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// Sixteen bytes to shared memory, past the registers; they have come once t_wait says so.
inline void t_copy(uint to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

// Ends a batch of copies.
inline void t_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all batches of this lane but the last N.
template <int N>
inline void t_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
