//! MLX's memory over many requests. MLX counts for the whole process, so this one has the process for itself.
#![cfg(feature = "mlx")]

mod asking;

use std::sync::Arc;
use std::time::{Duration, Instant};

use asking::{answer, request};
use sanctum_engine::backend::{self, KvMode, MlxBackend, MlxDevice, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, ModelSource};
use sanctum_engine::schedule::{Engine, EngineLimits, Heartbeat, Request};
use sanctum_engine::text::Text;

const LIMITS: EngineLimits = EngineLimits {
    slots: 4,
    queue: 64,
    prefill_chunk: 64,
    context: 512,
};

fn engine(kv_cache: KvMode) -> Engine {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let backend = MlxBackend::new(MlxDevice::best(), &host.weights, 1, Precision::Exact);
    let backend = backend.with_kv_cache(kv_cache);
    let model = Model::new(backend, host.config, host.weights);
    let text = Text::open(&ModelSource::Embedded, &model.config).unwrap();
    Engine::start(model, text, LIMITS, Arc::new(Heartbeat::new())).unwrap()
}

/// All in one test: MLX's count is of the whole process, and tests run side by side.
#[test]
fn many_requests_leave_no_memory_behind() {
    freed_buffers_are_returned_once_no_engine_is_busy();
    for kv_cache in [KvMode::Plain, KvMode::V8] {
        leaves_no_memory_behind(kv_cache);
    }
}

fn freed_buffers_are_returned_once_no_engine_is_busy() {
    let [first, second] = [(); 2].map(|()| engine(KvMode::Plain));
    let drains = || backend::memory_usage().unwrap().drains;
    let begun = drains();
    let endless = Request {
        ignore_eos: true,
        ..request(&first, "", 400)
    };
    let mut long = first.submit(endless).unwrap();
    long.blocking_next().unwrap();
    // Short ones beside it, on its own engine and on the other, whose last sequence ends too.
    for engine in [&first, &second] {
        for _ in 0..3 {
            answer(engine.submit(request(engine, "", 2)).unwrap());
        }
    }
    while second.heartbeat().read().in_flight > 0 {
        std::thread::yield_now();
    }
    assert_eq!(
        first.heartbeat().read().in_flight,
        1,
        "the long one is over"
    );
    assert_eq!(drains(), begun);
    answer(long);
    let waited = Instant::now();
    while drains() == begun {
        assert!(
            waited.elapsed() < Duration::from_secs(5),
            "nothing returned"
        );
        std::thread::yield_now();
    }
    assert_eq!(drains(), begun + 1);
}

fn leaves_no_memory_behind(kv_cache: KvMode) {
    let engine = engine(kv_cache);
    let rounds = match MlxDevice::best() {
        MlxDevice::Cpu => 125,
        MlxDevice::Gpu => 500,
    };
    let active = || backend::memory_usage().unwrap().active;
    let mut most_early = 0;
    for round in 0..rounds {
        // Prompts of 1 to 9 tokens: sequences that end apart, in pages that are taken and given back.
        let ask = |n: usize| {
            let prompt = (1..2 + (round + 3 * n as u32) % 9).collect();
            let max_tokens = 1 + n % 3;
            let some = Request {
                prompt,
                ..request(&engine, "", max_tokens)
            };
            engine.submit(some).unwrap()
        };
        let asked: Vec<_> = (0..4).map(ask).collect();
        asked
            .into_iter()
            .for_each(|generation| drop(answer(generation)));
        while engine.heartbeat().read().in_flight > 0 {
            std::thread::yield_now();
        }
        match round * 4 {
            ..100 => most_early = active().max(most_early),
            // The device frees the last arrays of a pass a moment after it has reported its end.
            asked => {
                let begun = Instant::now();
                while active() > most_early {
                    let (now, waited) = (active(), begun.elapsed());
                    let more = format!(
                        "{kv_cache}: {now} bytes, not {most_early}, after {asked} requests"
                    );
                    assert!(waited < Duration::from_secs(5), "{more}");
                    std::thread::yield_now();
                }
            }
        }
    }
}
