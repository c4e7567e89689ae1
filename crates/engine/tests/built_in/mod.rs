//! An engine of the built-in model on the cpu backend.

use std::sync::Arc;

use sanctum_engine::backend::{CpuBackend, Precision};
use sanctum_engine::graph::Model;
use sanctum_engine::load::{HostModel, ModelSource};
use sanctum_engine::schedule::{Engine, EngineLimits, Heartbeat};
use sanctum_engine::text::Text;

pub(crate) const LIMITS: EngineLimits = EngineLimits {
    slots: 4,
    queue: 2,
    prefill_chunk: 16,
    context: 256,
};

pub(crate) fn engine(limits: EngineLimits) -> Engine {
    let host = HostModel::open(&ModelSource::Embedded, |_, _| {}).unwrap();
    let text = Text::open(&ModelSource::Embedded, &host.config).unwrap();
    let backend = CpuBackend::new(&host.config, 2, Precision::Fast);
    let model = Model::new(backend, host.config, host.weights);
    Engine::start(model, text, limits, Arc::new(Heartbeat::new())).unwrap()
}
