//! Times every operation that is not a matrix product, in the shapes of two models.
//!
//! `cargo run --release -p sanctum-kernels --example ops_bench -- [THREADS] [ISA] [FILTER]`, with ISA one of
//! `portable avx2 avx512-vnni neon neon-dotprod best`. Prints the best time of a layer's call and the rates that it
//! makes; the traffic is what must be moved once, so caches can make it look better than the memory is.

use std::time::{Duration, Instant};

use sanctum_kernels::cpu::{
    AttentionInput, AttentionParams, Cpu, DeltaInput, DeltaParams, Isa, KvCache, KvType, Segment,
    add_rms_norm, argmax, attention, gated_delta, gated_norm, log_sum_exp, short_conv, swiglu,
};
use sanctum_kernels::{AttentionDims, ConvDims, DeltaDims, KvMode, Rope};

/// The shapes of one model.
struct ModelShape {
    name: &'static str,
    hidden: usize,
    feed_forward: usize,
    attention: AttentionDims,
    delta: DeltaDims,
}

/// Rows of each sequence in a pass.
#[derive(Clone, Copy)]
struct BatchShape {
    sequences: usize,
    rows: usize,
}

impl BatchShape {
    fn len(self) -> usize {
        self.sequences * self.rows
    }

    fn segments<S>(self, states: &mut [S]) -> Vec<Segment<'_, S>> {
        let rows = self.rows;
        let states = states.iter_mut().enumerate();
        states
            .map(|(i, state)| Segment::new(i * rows..(i + 1) * rows, state))
            .collect()
    }

    fn name(self) -> String {
        match self.rows {
            1 => format!("decode x{}", self.sequences),
            rows => format!("prefill {rows}"),
        }
    }
}

struct Bench {
    cpu: Cpu,
    filter: String,
}

impl Bench {
    /// Runs `call` for a while and prints its best time; `bytes` and `operations` are those of one call.
    fn time(&self, name: &str, bytes: usize, operations: usize, mut call: impl FnMut(&Cpu)) {
        if !name.contains(&self.filter) {
            return;
        }
        let mut best = Duration::MAX;
        let begun = Instant::now();
        let mut calls = 0;
        while calls < 3 || (begun.elapsed() < Duration::from_millis(300) && calls < 2_000) {
            let start = Instant::now();
            call(&self.cpu);
            best = best.min(start.elapsed());
            calls += 1;
        }
        let seconds = best.as_secs_f64();
        println!(
            "{name:<52} {:>10.1} us {:>8.1} GB/s {:>8.1} GFLOP/s",
            seconds * 1e6,
            bytes as f64 / seconds / 1e9,
            operations as f64 / seconds / 1e9
        );
    }

    fn wanted(&self, name: &str) -> bool {
        self.filter.contains(name) || name.contains(&self.filter)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(2);
    let isa = Isa::ALL
        .into_iter()
        .find(|isa| Some(&isa.to_string()) == arguments.get(1))
        .unwrap_or(Isa::detect());
    let bench = Bench {
        cpu: Cpu::with_isa(threads, isa),
        filter: arguments.get(2).cloned().unwrap_or_default(),
    };
    println!("{threads} threads, {}", bench.cpu.isa);
    let models = [
        ModelShape {
            name: "0.8B",
            hidden: 1024,
            feed_forward: 3584,
            attention: AttentionDims::new(8, 2, 256, 64).expect("a valid shape"),
            delta: DeltaDims::new(16, 16, 128, 128).expect("a valid shape"),
        },
        ModelShape {
            name: "27B",
            hidden: 5120,
            feed_forward: 17408,
            attention: AttentionDims::new(24, 4, 256, 64).expect("a valid shape"),
            delta: DeltaDims::new(16, 48, 128, 128).expect("a valid shape"),
        },
    ];
    let batches = [(1, 128), (1, 512), (1, 1), (16, 1), (32, 1)]
        .map(|(sequences, rows)| BatchShape { sequences, rows });
    for model in &models {
        for batch in batches {
            let name = format!("{} {}", model.name, batch.name());
            rows(&bench, model, batch, &name);
            convolution(&bench, model, batch, &name);
            delta(&bench, model, batch, &name);
            for context in [0, 128, 4096] {
                for kind in [
                    (KvType::F32, KvMode::Plain),
                    (KvType::F16, KvMode::Plain),
                    (KvType::F16, KvMode::V8),
                    (KvType::F16, KvMode::V4),
                ] {
                    softmax(&bench, model, batch, (context, kind), &name);
                }
            }
        }
    }
    let logits = noise(248_320);
    bench.time("argmax 248320", logits.len() * 4, 0, |cpu| {
        std::hint::black_box(argmax(cpu, &logits));
    });
    bench.time("log_sum_exp 248320", logits.len() * 4, 0, |cpu| {
        std::hint::black_box(log_sum_exp(cpu, &logits));
    });
}

fn rows(bench: &Bench, model: &ModelShape, batch: BatchShape, name: &str) {
    let len = batch.len() * model.hidden;
    let (mut x, y, weight) = (noise(len), vec![0.0; len], noise(model.hidden));
    let mut out = vec![0.0; len];
    bench.time(&format!("{name} add_rms_norm"), len * 16, len * 5, |cpu| {
        add_rms_norm(cpu, &mut x, &y, &weight, 1e-6, &mut out)
    });
    let len = batch.len() * model.feed_forward;
    let (gate, up, mut out) = (noise(len), noise(len), vec![0.0; len]);
    bench.time(&format!("{name} swiglu"), len * 12, len * 4, |cpu| {
        swiglu(cpu, &gate, &up, &mut out);
    });
    let dims = &model.delta;
    let len = batch.len() * dims.value_heads * dims.value_dim;
    let (y, z, weight) = (noise(len), noise(len), noise(dims.value_dim));
    let mut out = vec![0.0; len];
    bench.time(&format!("{name} gated_norm"), len * 12, len * 8, |cpu| {
        gated_norm(cpu, &y, &z, &weight, 1e-6, &mut out);
    });
}

fn convolution(bench: &Bench, model: &ModelShape, batch: BatchShape, name: &str) {
    let dims = ConvDims::new(model.delta.qkv_len(), 4).expect("a valid shape");
    let x = noise(batch.len() * dims.channels);
    let weight = noise(dims.channels * dims.kernel);
    let mut tails = vec![vec![0.0; dims.tail_len()]; batch.sequences];
    let mut out = vec![0.0; x.len()];
    bench.time(
        &format!("{name} short_conv"),
        x.len() * 8 + batch.sequences * dims.tail_len() * 8 + weight.len() * 4,
        x.len() * (2 * dims.kernel + 4),
        |cpu| {
            let mut tails: Vec<&mut [f32]> = tails.iter_mut().map(|t| &mut t[..]).collect();
            let mut segments: Vec<_> = (batch.segments(&mut tails).into_iter())
                .map(|s| Segment::new(s.rows, &mut **s.state))
                .collect();
            short_conv(cpu, &dims, &x, &weight, &mut segments, &mut out);
        },
    );
}

fn delta(bench: &Bench, model: &ModelShape, batch: BatchShape, name: &str) {
    let dims = model.delta;
    let heads = dims.value_heads;
    let qkv = noise(batch.len() * dims.qkv_len());
    let [a, b] = [noise(batch.len() * heads), noise(batch.len() * heads)];
    let [a_log, dt_bias] = [noise(heads), noise(heads)];
    let mut states = vec![vec![0.0; dims.state_len()]; batch.sequences];
    let mut out = vec![0.0; batch.len() * heads * dims.value_dim];
    bench.time(
        &format!("{name} gated_delta"),
        batch.sequences * dims.state_len() * 8 + (qkv.len() + out.len()) * 4,
        // Two products, the decay and the update.
        batch.len() * dims.state_len() * 7,
        |cpu| {
            let mut states: Vec<&mut [f32]> = states.iter_mut().map(|t| &mut t[..]).collect();
            let mut segments: Vec<_> = (batch.segments(&mut states).into_iter())
                .map(|s| Segment::new(s.rows, &mut **s.state))
                .collect();
            let weights = DeltaParams {
                a_log: &a_log,
                dt_bias: &dt_bias,
            };
            let input = DeltaInput {
                qkv: &qkv,
                a: &a,
                b: &b,
            };
            gated_delta(cpu, &dims, weights, input, &mut segments, &mut out);
        },
    );
}

fn softmax(
    bench: &Bench,
    model: &ModelShape,
    batch: BatchShape,
    (context, (kv_type, mode)): (usize, (KvType, KvMode)),
    name: &str,
) {
    let name = format!("{name} attention {context} {kv_type:?} {mode}");
    if !bench.wanted(&name) {
        return;
    }
    let dims = model.attention;
    let d = dims.head_dim;
    let rope = Rope::new(dims.rotary_dim, 1e7);
    let (q_norm, k_norm) = (noise(d), noise(d));
    let most = batch.len().max(128);
    let q_gate = noise(most * dims.heads * 2 * d);
    let k = noise(most * dims.kv_heads * d);
    let input = |batch: BatchShape| AttentionInput {
        q_gate: &q_gate[..batch.len() * dims.heads * 2 * d],
        k: &k[..batch.len() * dims.kv_heads * d],
        v: &k[..batch.len() * dims.kv_heads * d],
    };
    let mut out = vec![0.0; most * dims.heads * d];
    let mut run =
        |cpu: &Cpu, batch: BatchShape, caches: &mut [KvCache], input: AttentionInput<'_>| {
            let weights = AttentionParams {
                q_norm: &q_norm,
                k_norm: &k_norm,
                eps: 1e-6,
                rope: &rope,
            };
            let out = &mut out[..batch.len() * dims.heads * d];
            attention(cpu, &dims, weights, input, &mut batch.segments(caches), out);
        };
    // Caches are filled in chunks, and hold numbers of their own: clones would share pages.
    let mut caches = Vec::new();
    for _ in 0..batch.sequences {
        let mut cache = [KvCache::new(&dims, kv_type, mode)];
        let chunk = BatchShape {
            sequences: 1,
            rows: 128,
        };
        while cache[0].len() < context {
            run(&bench.cpu, chunk, &mut cache, input(chunk));
        }
        caches.extend(cache);
    }
    let input = input(batch);
    let seen = context * batch.len() + batch.sequences * batch.rows * (batch.rows + 1) / 2;
    let read = batch.sequences * (context + batch.rows) * caches[0].bytes_per_token();
    bench.time(
        &name,
        read + (input.q_gate.len() + 2 * input.k.len()) * 4,
        4 * seen * dims.heads * d,
        |cpu| {
            run(cpu, batch, &mut caches, input);
            caches.iter_mut().for_each(|cache| cache.truncate(context));
        },
    );
}

/// Numbers between -1 and 1.
fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u64;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
