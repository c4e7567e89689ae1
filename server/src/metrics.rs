//! The metrics of a server, in Prometheus' text format.
//!
//! The recorder belongs to the server that it counts for and is not installed for the whole process, so that two
//! servers in one test do not count for each other. Names begin with `sanctum_`; times are in seconds.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

use metrics::{Counter, Label, counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use sanctum_engine::prefix::PrefixState;

use crate::front::{CircuitState, FrontModel, Fronts};
use crate::models::{KeptPrefixes, Models, PrefixTotals, Ready, Served};
use crate::prepare::PreparingStatus;

const TIME_TO_FIRST_TOKEN: &str = "sanctum_time_to_first_token_seconds";
const TIME_PER_OUTPUT_TOKEN: &str = "sanctum_time_per_output_token_seconds";

/// How often the recorder folds raw samples into buckets without a scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// The server's counters.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    born: Instant,
    audit_lost: AtomicU64,
    connections: AtomicI64,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Full(TIME_TO_FIRST_TOKEN.into()),
                &[
                    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
                ],
            )
            .and_then(|builder| {
                builder.set_buckets_for_metric(
                    Matcher::Full(TIME_PER_OUTPUT_TOKEN.into()),
                    &[
                        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
                    ],
                )
            })
            .expect("the buckets are not empty")
            .build_recorder();
        let metrics = Self {
            handle: recorder.handle(),
            recorder,
            born: Instant::now(),
            audit_lost: AtomicU64::new(0),
            connections: AtomicI64::new(0),
        };
        metrics.within(describe);
        metrics
    }

    /// Counts a request that was answered; a streamed one counts when its first byte goes out.
    pub(crate) fn request(&self, method: &str, route: &str, status: u16) {
        let labels = vec![
            Label::new("method", method.to_owned()),
            Label::new("route", route.to_owned()),
            Label::new("status", status.to_string()),
        ];
        self.within(|| counter!("sanctum_http_requests_total", labels).increment(1));
    }

    /// Counts a connection that was made (1) or that is gone (-1).
    pub(crate) fn connections(&self, change: i64) {
        self.connections.fetch_add(change, Relaxed);
        self.within(|| gauge!("sanctum_connections").increment(change as f64));
    }

    /// Connections that are open.
    pub(crate) fn open_connections(&self) -> u64 {
        u64::try_from(self.connections.load(Relaxed)).unwrap_or(0)
    }

    /// Since the server started.
    pub(crate) fn uptime(&self) -> Duration {
        self.born.elapsed()
    }

    /// Counts a connection that was refused, or closed before its time.
    pub(crate) fn connection_refused(&self, reason: &'static str) {
        let label = vec![Label::new("reason", reason)];
        self.within(|| counter!("sanctum_connections_refused_total", label).increment(1));
    }

    /// Counts decisions of the gate: requests that were accepted, or that were refused for a reason.
    pub(crate) fn auth_counter(
        &self,
        method: &'static str,
        refused: Option<&'static str>,
    ) -> Counter {
        let outcome = refused.map_or("granted", |_| "refused");
        let mut labels = vec![Label::new("method", method), Label::new("outcome", outcome)];
        labels.extend(refused.map(|reason| Label::new("reason", reason)));
        self.within(|| counter!("sanctum_auth_total", labels))
    }

    /// Whether authentication is disabled.
    pub(crate) fn auth_is(&self, disabled: bool) {
        self.within(|| gauge!("sanctum_auth_disabled").set(f64::from(u8::from(disabled))));
    }

    /// Counts a request under the name in its client's certificate: our own CA gives these, so there are few.
    pub(crate) fn client_request(&self, name: &str) {
        let label = vec![Label::new("client", name.to_owned())];
        self.within(|| counter!("sanctum_client_requests_total", label).increment(1));
    }

    /// Counts fields of a request that had no effect.
    pub(crate) fn ignored_fields(&self, count: usize) {
        self.within(|| counter!("sanctum_ignored_fields_total").increment(count as u64));
    }

    /// Counts lines of the audit log that could not be written, and returns how many there were before.
    pub(crate) fn audit_lost(&self, lines: u64) -> u64 {
        self.audit_lost.fetch_add(lines, Relaxed)
    }

    /// Records how long a request waited for its first token.
    pub(crate) fn first_token(&self, model: &str, waited: Duration) {
        let label = vec![Label::new("model", model.to_owned())];
        self.within(|| histogram!(TIME_TO_FIRST_TOKEN, label).record(waited));
    }

    /// Counts a generation that ended: `stop`, `length`, `failed` or `cancelled`. `per_token` is the mean time between its
    /// tokens, if there were several.
    pub(crate) fn generation(
        &self,
        model: &str,
        outcome: &'static str,
        per_token: Option<Duration>,
    ) {
        let model = Label::new("model", model.to_owned());
        let labels = vec![model.clone(), Label::new("outcome", outcome)];
        self.within(|| {
            counter!("sanctum_generations_total", labels).increment(1);
            if let Some(per_token) = per_token {
                histogram!(TIME_PER_OUTPUT_TOKEN, vec![model]).record(per_token);
            }
        });
    }

    /// Counts what came of a request to an upstream: `answered`, `full`, `failed`, `denied` or `skipped`.
    pub(crate) fn upstream_request(&self, model: &str, upstream: &str, outcome: &'static str) {
        let labels = vec![
            Label::new("model", model.to_owned()),
            Label::new("upstream", upstream.to_owned()),
            Label::new("outcome", outcome),
        ];
        self.within(|| counter!("sanctum_upstream_requests_total", labels).increment(1));
    }

    /// The page.
    pub(crate) fn render(
        &self,
        models: &Models,
        fronts: &Fronts,
        preparing: &PreparingStatus,
    ) -> String {
        self.within(|| {
            read_preparing(preparing);
            gauge!("sanctum_uptime_seconds").set(self.uptime().as_secs_f64());
            counter!("sanctum_audit_lost_total").absolute(self.audit_lost.load(Relaxed));
            models.iter().for_each(read_engine);
            fronts.iter().for_each(read_upstreams);
            read_memory();
        });
        self.handle.render()
    }

    /// Limits the recorder's memory between scrapes; runs for ever.
    pub(crate) async fn upkeep(&self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.handle.run_upkeep();
        }
    }

    fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        with_local_recorder(&self.recorder, act)
    }
}

/// Copies the state of an engine.
fn read_engine(served: &Served) {
    let label = || vec![Label::new("model", served.id().to_string())];
    let pulse = served.pulse();
    gauge!("sanctum_requests_in_flight", label()).set(pulse.in_flight as f64);
    gauge!("sanctum_requests_queued", label()).set(pulse.queued as f64);
    gauge!("sanctum_engine_progress_age_seconds", label()).set(pulse.age.as_secs_f64());
    counter!("sanctum_engine_progress_total", label()).absolute(pulse.progress);
    if let Ok(ready) = served.ready() {
        let totals = served.totals();
        let capacity = served.capacity();
        gauge!("sanctum_slots", label()).set(capacity.slots as f64);
        let memory = ready.engine.admission();
        let gauges = [
            ("sanctum_sequence_memory_limit_bytes", capacity.limit),
            ("sanctum_sequence_memory_reserved_bytes", capacity.reserved),
            ("sanctum_sequence_bytes", memory.cost.fixed),
        ];
        for (name, bytes) in gauges {
            gauge!(name, label()).set(bytes as f64);
        }
        let mut kept = label();
        kept.push(Label::new("kv_cache", memory.cost.kv_cache.to_string()));
        gauge!("sanctum_sequence_bytes_per_token", kept).set(memory.cost.per_token as f64);
        let counts = [
            ("sanctum_prompt_tokens_total", totals.prompt_tokens),
            ("sanctum_completion_tokens_total", totals.generated_tokens),
            ("sanctum_engine_passes_total", totals.passes),
        ];
        for (name, total) in counts {
            counter!(name, label()).absolute(total);
        }
        read_prefixes(&ready, totals.prefixes, capacity.prefixes, label);
    }
}

/// Copies the state of prefix reuse.
fn read_prefixes(
    ready: &Ready,
    totals: PrefixTotals,
    kept: KeptPrefixes,
    label: impl Fn() -> Vec<Label>,
) {
    let counts = [
        ("sanctum_prefix_cache_hits_total", totals.hits),
        ("sanctum_prefix_cache_hit_tokens_total", totals.hit_tokens),
        ("sanctum_prefix_cache_evictions_total", totals.evictions),
        ("sanctum_prefix_cache_waits_total", totals.waits),
        ("sanctum_prefix_cache_restores_total", totals.restores),
        ("sanctum_prefix_cache_restarts_total", totals.restarts),
        ("sanctum_prefix_cache_checks_total", totals.checks),
        ("sanctum_prefix_cache_differences_total", totals.differences),
    ];
    for (name, total) in counts {
        counter!(name, label()).absolute(total);
    }
    let seconds = Duration::from_micros(totals.restore_us).as_secs_f64();
    gauge!("sanctum_prefix_cache_restore_seconds", label()).set(seconds);
    for (tier, bytes) in [("memory", kept.memory), ("disk", kept.disk)] {
        let mut label = label();
        label.push(Label::new("tier", tier));
        gauge!("sanctum_prefix_cache_bytes", label).set(bytes as f64);
    }
    gauge!("sanctum_prefix_cache_snapshots", label()).set(kept.snapshots as f64);
    let disk = ready.engine.prefix_disk();
    let is_paused = f64::from(u8::from(disk.problem.is_some()));
    gauge!("sanctum_prefix_cache_disk_paused", label()).set(is_paused);
    counter!("sanctum_prefix_cache_disk_errors_total", label()).absolute(disk.errors);
    let is_on = matches!(ready.engine.prefix_state(), PrefixState::On);
    gauge!("sanctum_prefix_cache_enabled", label()).set(f64::from(u8::from(is_on)));
}

/// Copies the state of a model's upstreams.
fn read_upstreams(model: &FrontModel) {
    for upstream in &model.upstreams {
        let status = upstream.status();
        let labels = vec![
            Label::new("model", model.id.to_string()),
            Label::new("upstream", status.name),
        ];
        let is_up = f64::from(u8::from(status.circuit != CircuitState::Open));
        gauge!("sanctum_upstream_up", labels.clone()).set(is_up);
        gauge!("sanctum_upstream_requests_in_flight", labels).set(status.in_flight as f64);
    }
}

/// Copies what is being prepared, as in `/health`.
fn read_preparing(reading: &PreparingStatus) {
    gauge!("sanctum_preparing_requests").set(reading.requests as f64);
    gauge!("sanctum_preparing_waiting_requests").set(reading.waiting as f64);
    gauge!("sanctum_preparing_body_bytes").set(reading.bytes as f64);
    gauge!("sanctum_preparing_oldest_seconds").set(reading.oldest_seconds);
    gauge!("sanctum_preparing_progress_age_seconds").set(reading.progress_age_seconds);
}

/// Copies the state of MLX's allocator, which all models share.
fn read_memory() {
    if let Some(usage) = sanctum_engine::backend::memory_usage() {
        gauge!("sanctum_mlx_active_memory_bytes").set(usage.active as f64);
        gauge!("sanctum_mlx_cache_memory_bytes").set(usage.cache as f64);
        gauge!("sanctum_mlx_peak_memory_bytes").set(usage.peak as f64);
    }
}

fn describe() {
    use metrics::{
        describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram,
    };
    counter!(
        "sanctum_http_requests_total",
        "Requests answered, by method, route and status"
    );
    gauge!("sanctum_connections", "Connections that are open");
    counter!(
        "sanctum_connections_refused_total",
        "Connections refused or closed before their time, by reason: too many, too slow, or what was wrong with the \
         client's certificate"
    );
    counter!(
        "sanctum_generations_total",
        "Sequences generated, by model and outcome (stop, length, failed, cancelled)"
    );
    counter!(
        "sanctum_auth_total",
        "Decisions of the gate, by method (mtls, bearer, loopback, disabled, preflight, public, none), outcome and, if refused, reason"
    );
    gauge!(
        "sanctum_auth_disabled",
        "1 if SANCTUM_DISABLE_AUTH disables authentication"
    );
    counter!(
        "sanctum_client_requests_total",
        "Requests accepted by a client certificate, by its common name"
    );
    counter!(
        "sanctum_ignored_fields_total",
        "Fields of requests that had no effect and that the response header sanctum-ignored-fields named"
    );
    counter!(
        "sanctum_audit_lost_total",
        "Lines of the audit log that could not be written"
    );
    counter!("sanctum_prompt_tokens_total", "Prompt tokens computed");
    counter!(
        "sanctum_prefix_cache_hits_total",
        "Prompts whose first tokens were not computed, because a computed prefix was reused"
    );
    counter!(
        "sanctum_prefix_cache_hit_tokens_total",
        "Prompt tokens that were reused instead of computed"
    );
    counter!(
        "sanctum_prefix_cache_evictions_total",
        "Snapshots of prefixes that were evicted from memory"
    );
    counter!(
        "sanctum_prefix_cache_waits_total",
        "Prompts that waited until another one had computed the prefix that they share"
    );
    counter!(
        "sanctum_prefix_cache_restores_total",
        "Snapshots of prefixes that were read from disk"
    );
    gauge!(
        "sanctum_prefix_cache_restore_seconds",
        "Time that reading snapshots of prefixes from disk has taken since the start, all of it together"
    );
    counter!(
        "sanctum_prefix_cache_restarts_total",
        "Prompts that were computed after all, because the logits behind a reused prefix were not finite numbers"
    );
    counter!(
        "sanctum_prefix_cache_checks_total",
        "Reused prefixes that were computed again and compared"
    );
    counter!(
        "sanctum_prefix_cache_differences_total",
        "Reused prefixes that differed from what was computed again; any turns reuse off until a restart"
    );
    gauge!(
        "sanctum_prefix_cache_bytes",
        "Bytes that computed prefixes take, by tier: memory, or disk, where it is those of all models of the folder"
    );
    gauge!(
        "sanctum_prefix_cache_snapshots",
        "Snapshots of prefixes in memory from which a prompt can continue"
    );
    gauge!(
        "sanctum_prefix_cache_disk_paused",
        "1 while no prefix is written to the cache_dir, because it cannot be used; `/health` has the problem"
    );
    counter!(
        "sanctum_prefix_cache_disk_errors_total",
        "Operations on files of the cache_dir that the system refused, those of all models of the folder"
    );
    gauge!(
        "sanctum_prefix_cache_enabled",
        "1 if computed prefixes are reused; 0 if that is off, or a check turned it off"
    );
    counter!("sanctum_completion_tokens_total", "Tokens generated");
    counter!("sanctum_engine_passes_total", "Forward passes");
    counter!(
        "sanctum_engine_progress_total",
        "Layers computed, loading included"
    );
    gauge!(
        "sanctum_engine_progress_age_seconds",
        "Time since the engine last moved"
    );
    gauge!(
        "sanctum_preparing_requests",
        "Requests that are being parsed, rendered and tokenized, or wait for that"
    );
    gauge!(
        "sanctum_preparing_waiting_requests",
        "Requests that wait to be parsed, rendered and tokenized"
    );
    gauge!(
        "sanctum_preparing_body_bytes",
        "Bytes in the bodies of requests in preparation"
    );
    gauge!(
        "sanctum_preparing_oldest_seconds",
        "Age of the oldest request in preparation; 0 if there is none"
    );
    gauge!(
        "sanctum_preparing_progress_age_seconds",
        "Time since the preparation of requests last moved"
    );
    gauge!("sanctum_requests_in_flight", "Sequences that hold a slot");
    gauge!("sanctum_requests_queued", "Requests that wait for a slot");
    gauge!("sanctum_slots", "Slots, used or not");
    gauge!(
        "sanctum_sequence_memory_limit_bytes",
        "Memory that all sequences of a model together may take"
    );
    gauge!(
        "sanctum_sequence_memory_reserved_bytes",
        "Memory that running sequences have reserved"
    );
    gauge!(
        "sanctum_sequence_bytes",
        "Memory of a sequence, whatever its length"
    );
    gauge!(
        "sanctum_sequence_bytes_per_token",
        "Memory of a sequence for each of its tokens, by how its values are kept (plain, v8, v4)"
    );
    gauge!(
        "sanctum_mlx_active_memory_bytes",
        "Memory in arrays that MLX holds, of all models"
    );
    gauge!(
        "sanctum_mlx_cache_memory_bytes",
        "Freed memory that MLX keeps for reuse"
    );
    gauge!(
        "sanctum_mlx_peak_memory_bytes",
        "The most memory that MLX held at once"
    );
    counter!(
        "sanctum_upstream_requests_total",
        "Requests to other servers, by model, upstream and outcome (answered, full, failed, denied, skipped)"
    );
    gauge!(
        "sanctum_upstream_up",
        "1 if requests are sent to the upstream, 0 if it is gone"
    );
    gauge!(
        "sanctum_upstream_requests_in_flight",
        "Requests that the upstream has of this server"
    );
    gauge!("sanctum_uptime_seconds", "Time since the server started");
    histogram!(
        TIME_TO_FIRST_TOKEN,
        "From a request's arrival to its first token, waiting and prefill included"
    );
    histogram!(
        TIME_PER_OUTPUT_TOKEN,
        "Mean time between the tokens of one sequence"
    );
}
