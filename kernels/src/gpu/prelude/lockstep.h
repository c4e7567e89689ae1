// The words of the dialect in plain C++, for tests. The lanes of a group are fibers of one thread; they meet at every
// K_XOR (32 of them) and at every K_SYNC (all of them), and otherwise run one after the other, upwards or downwards: a
// text that forgets a barrier gives two results. 16-bit types convert only where the text says so.
#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

struct uint3 {
    unsigned x, y, z;
};

namespace lockstep {

struct Lane {
    uint3 position, group;
    unsigned index;
    uint64_t exchanges = 0, syncs = 0;
    bool begun = false;
    ucontext_t start;
    jmp_buf here;
    std::vector<char> stack;
};

// 32 lanes, and what they show each other: twice, since the first lane shows the next value before the last has read.
struct Warp {
    uint32_t shown[2][32];
    unsigned mask;
    uint64_t arrived = 0;
};

inline std::vector<Lane> lanes;
inline std::vector<Warp> warps;
inline unsigned now, stride, finished, idle;
inline uint64_t arrived;
inline jmp_buf caller;

[[noreturn]] inline void fail(const char* why) {
    fprintf(stderr, "group %u %u, lane %u: %s\n", lanes[now].group.x, lanes[now].group.y, now, why);
    exit(1);
}

// Lets the next lane run.
[[gnu::noinline]] inline void pass_on() {
    if (++idle > 4 * lanes.size()) {
        fail("lanes wait for each other");
    }
    if (_setjmp(lanes[now].here) == 0) {
        now = (now + stride) % lanes.size();
        if (lanes[now].begun) {
            _longjmp(lanes[now].here, 1);
        }
        lanes[now].begun = true;
        setcontext(&lanes[now].start);
    }
}

// Waits until `size` lanes have come as often as this one.
inline void meet(uint64_t& arrived, uint64_t& mine, unsigned size) {
    idle = 0;
    mine++;
    arrived++;
    while (arrived < mine * size) {
        pass_on();
    }
}

inline void sync() { meet(arrived, lanes[now].syncs, unsigned(lanes.size())); }

template <typename V>
V exchange(V value, unsigned mask) {
    static_assert(sizeof(V) == 4, "lanes exchange 32 bits");
    Lane& me = lanes[now];
    Warp& warp = warps[me.index / 32];
    if (warp.arrived % 32 == 0) {
        warp.mask = mask;
    } else if (warp.mask != mask) {
        fail("lanes meet at different places");
    }
    uint32_t(&shown)[32] = warp.shown[me.exchanges % 2];
    memcpy(&shown[me.index % 32], &value, 4);
    meet(warp.arrived, me.exchanges, 32);
    memcpy(&value, &shown[(me.index % 32) ^ mask], 4);
    return value;
}

// Runs `body` for every lane of every group. `down`: the last lane first.
template <typename Body>
void launch(uint3 groups, uint3 size, bool down, Body body) {
    static Body* text;
    static uint3 count;
    text = &body;
    count = groups;
    lanes = std::vector<Lane>(size.x * size.y * size.z);
    warps = std::vector<Warp>(lanes.size() / 32);
    stride = down ? unsigned(lanes.size()) - 1 : 1;
    now = down ? unsigned(lanes.size()) - 1 : 0;
    arrived = finished = idle = 0;
    for (unsigned i = 0; i < lanes.size(); i++) {
        Lane& lane = lanes[i];
        lane.index = i;
        lane.position = {i % size.x, i / size.x % size.y, i / size.x / size.y};
        lane.stack.resize(1 << 16);
        getcontext(&lane.start);
        lane.start.uc_stack.ss_sp = lane.stack.data();
        lane.start.uc_stack.ss_size = lane.stack.size();
        lane.start.uc_link = nullptr;
        void (*run)() = [] {
            Lane& me = lanes[now];
            for (me.group.z = 0; me.group.z < count.z; me.group.z++) {
                for (me.group.y = 0; me.group.y < count.y; me.group.y++) {
                    for (me.group.x = 0; me.group.x < count.x; me.group.x++) {
                        (*text)();
                        sync();
                    }
                }
            }
            finished++;
            idle = 0;
            while (finished < lanes.size()) {
                pass_on();
            }
            _longjmp(caller, 1);
        };
        makecontext(&lane.start, run, 0);
    }
    if (_setjmp(caller) == 0) {
        lanes[now].begun = true;
        setcontext(&lanes[now].start);
    }
}

}  // namespace lockstep

struct bfloat16_t {
    uint16_t bits;
    bfloat16_t() = default;
    // Rounds to the nearest, to even between two.
    explicit bfloat16_t(float value) {
        uint32_t wide;
        memcpy(&wide, &value, 4);
        bits = uint16_t((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
    }
    explicit operator float() const {
        uint32_t wide = uint32_t(bits) << 16;
        float value;
        memcpy(&value, &wide, 4);
        return value;
    }
};

struct float16_t {
    uint16_t bits;
    float16_t() = default;
    explicit float16_t(float value) {
        float size = std::fabs(value);
        int exponent;
        std::frexp(size, &exponent);
        if (size >= 65520.0f) {
            bits = 0x7c00;
        } else if (exponent < -13) {
            bits = uint16_t(std::nearbyint(std::ldexp(size, 24)));
        } else {
            bits = uint16_t(((exponent + 13) << 10) + int(std::nearbyint(std::ldexp(size, 11 - exponent))));
        }
        bits |= std::signbit(value) ? 0x8000 : 0;
    }
    explicit operator float() const {
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        float size = exponent == 0 ? std::ldexp(float(fraction), -24)
                   : exponent == 31 ? (fraction ? NAN : INFINITY)
                                    : std::ldexp(float(1024 + fraction), exponent - 25);
        return bits & 0x8000 ? -size : size;
    }
};

typedef unsigned int uint;
#define thread_position_in_threadgroup (lockstep::lanes[lockstep::now].position)
#define threadgroup_position_in_grid (lockstep::lanes[lockstep::now].group)
#define K_SHARED static
#define K_SYNC() lockstep::sync()
#define K_XOR(value, mask) lockstep::exchange(value, mask)
#define K_EXP(x) std::exp(x)
#define K_LOG(x) std::log(x)
#define K_RSQRT(x) (1.0f / std::sqrt(x))
#define K_FMA(a, b, c) std::fma(a, b, c)
#define K_SIN(x) std::sin(x)
#define K_COS(x) std::cos(x)
#define K_DEVICE
