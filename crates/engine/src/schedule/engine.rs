//! The engine's handle: submit a request, read its events, read the engine's state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc as std_mpsc};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::admission::{Admission, HeldMemory, KeptMemory};
use super::heartbeat::{EnginePhase, Heartbeat};
use super::prompt_scores::logits_bytes;
use super::request::{Event, Request, SubmitError, TokenLogprob};
use super::scheduler::Scheduler;
use super::shared::{EngineLimits, EngineShared, EngineStats, Inbox, LAST, QueuedRequest, UNREAD};
use crate::backend::Backend;
use crate::backend::cost::ExtraCost;
use crate::graph::Model;
use crate::prefix::options::PrefixOptions;
use crate::prefix::scope::Reuse;
use crate::prefix::status::{PrefixDisk, PrefixState, PrefixStatus};
use crate::text::Text;

/// A running engine; clones are handles to the same one. Dropping the last handle ends the engine and waits for its thread.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<EngineShared>,
    inbox: std_mpsc::Sender<Option<QueuedRequest>>,
    stopped: watch::Receiver<Option<String>>,
    /// Declared after the inbox: the thread ends when the inbox's last sender is dropped.
    thread: Arc<EngineThread>,
}

/// The engine's thread, joined when the last handle is dropped: a process that exits while the thread still frees its model
/// would end MLX's own threads in the middle of it.
#[derive(Debug, Default)]
struct EngineThread {
    handle: Option<thread::JoinHandle<()>>,
    /// Do not join: the thread finishes on its own.
    is_released: AtomicBool,
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        // One that hangs must not keep the process from ending.
        const PATIENCE: Duration = Duration::from_secs(10);
        let begun = Instant::now();
        if let Some(thread) = self.handle.take().filter(|_| !*self.is_released.get_mut()) {
            while !thread.is_finished() && begun.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // It has reported a panic already.
                let _ = thread.join();
            }
        }
    }
}

/// The reason of an engine that ended because its handles were dropped.
pub const STOP_REQUESTED: &str = "the engine was stopped";

/// A request's events, in order. Dropping it cancels the request before the engine's next pass.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
    kept: KeptMemory,
}

impl Generation {
    /// The memory of its log probabilities. It is reserved until this generation and every handle are dropped; hold one as
    /// long as log probabilities are kept.
    pub fn kept(&self) -> KeptMemory {
        self.kept.clone()
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Like [`Generation::next`], for callers that poll several.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }

    /// Like [`Generation::next`], for callers without an async runtime.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }
}

impl Engine {
    /// Starts the engine's thread, which owns the model from now on, without a limit on the memory of sequences.
    ///
    /// # Errors
    /// As [`Engine::start_within`].
    pub fn start<B>(
        model: Model<B>,
        text: Text,
        limits: EngineLimits,
        heartbeat: Arc<Heartbeat>,
    ) -> std::io::Result<Self>
    where
        B: Backend + Send + 'static,
        B::Matrix: Send,
        B::Experts: Send,
        B::Vector: Send,
        B::Slots: Send,
    {
        Self::start_within(u64::MAX, model, text, limits, heartbeat)
    }

    /// Starts the engine's thread with `memory` bytes for sequences, without reuse of prefixes.
    ///
    /// # Errors
    /// As [`Engine::start_with`].
    pub fn start_within<B>(
        memory: u64,
        model: Model<B>,
        text: Text,
        limits: EngineLimits,
        heartbeat: Arc<Heartbeat>,
    ) -> std::io::Result<Self>
    where
        B: Backend + Send + 'static,
        B::Matrix: Send,
        B::Experts: Send,
        B::Vector: Send,
        B::Slots: Send,
    {
        let prefix = PrefixOptions::off();
        Self::start_with(memory, prefix, model, text, limits, heartbeat)
    }

    /// Starts the engine's thread with `memory` bytes for sequences and what is kept for reuse, and waits until the model is
    /// warm.
    ///
    /// # Errors
    /// If the system refuses another thread, or the model cannot be warmed up.
    pub fn start_with<B>(
        memory: u64,
        prefix: PrefixOptions,
        model: Model<B>,
        text: Text,
        limits: EngineLimits,
        heartbeat: Arc<Heartbeat>,
    ) -> std::io::Result<Self>
    where
        B: Backend + Send + 'static,
        B::Matrix: Send,
        B::Experts: Send,
        B::Vector: Send,
        B::Slots: Send,
    {
        let admission = Admission::new(model.backend().cost(&model.config), memory);
        let beats = Arc::clone(&heartbeat);
        let (mut engine, inbox) =
            Self::connect(text, model.config.vocab, limits, admission, heartbeat);
        let seen = Arc::clone(&engine.shared);
        let (warm, warmed) = std_mpsc::channel();
        let thread = thread::Builder::new()
            .name("engine".into())
            .spawn(move || {
                let run = AssertUnwindSafe(|| {
                    model.warm_up(|| beats.beat());
                    let scheduler = Scheduler::new(model, &prefix, seen);
                    let _ = warm.send(());
                    scheduler.run(&inbox.jobs);
                });
                let reason = match catch_unwind(run) {
                    Ok(()) => STOP_REQUESTED.to_owned(),
                    Err(panic) => format!("the engine panicked: {}", panic_text(&*panic)),
                };
                let _ = inbox.stop.send(Some(reason));
            })?;
        engine.thread = Arc::new(EngineThread {
            handle: Some(thread),
            is_released: AtomicBool::new(false),
        });
        if warmed.recv().is_err() {
            // The sender was dropped by the panic; the reason is sent last.
            let stopped = || engine.stopped.borrow().clone();
            while stopped().is_none() && engine.stopped.has_changed().is_ok() {
                thread::yield_now();
            }
            return Err(std::io::Error::other(stopped().unwrap_or_default()));
        }
        engine.shared.heartbeat.enter(EnginePhase::Ready);
        Ok(engine)
    }

    /// A handle and the receiver of its requests, for tests that script the answers instead of running a model.
    pub fn wire(
        text: Text,
        vocab: usize,
        limits: EngineLimits,
        heartbeat: Arc<Heartbeat>,
    ) -> (Self, Inbox) {
        let wired = Self::connect(text, vocab, limits, Admission::unlimited(), heartbeat);
        wired.0.shared.heartbeat.enter(EnginePhase::Ready);
        wired
    }

    fn connect(
        text: Text,
        vocab: usize,
        limits: EngineLimits,
        admission: Admission,
        heartbeat: Arc<Heartbeat>,
    ) -> (Self, Inbox) {
        let (inbox, jobs) = std_mpsc::channel();
        let (stop, stopped) = watch::channel(None);
        let shared = Arc::new(EngineShared {
            limits,
            admission: Arc::new(admission),
            vocab,
            text,
            heartbeat,
            stats: Arc::default(),
            prefix: PrefixStatus::default(),
            waiting: AtomicUsize::new(0),
            slot_ms: AtomicU64::new(1_000),
        });
        let engine = Self {
            shared,
            inbox,
            stopped,
            thread: Arc::default(),
        };
        (engine, Inbox { jobs, stop })
    }

    /// Submits a request.
    ///
    /// # Errors
    /// If the request can never be served, or not now.
    pub fn submit(&self, mut request: Request) -> Result<Generation, SubmitError> {
        let shared = &*self.shared;
        if shared.heartbeat.read().phase == EnginePhase::Draining {
            return Err(SubmitError::Draining);
        }
        let context = shared.limits.context;
        let prompt = request.prompt.len();
        if prompt == 0 {
            return Err(SubmitError::PromptEmpty);
        }
        if prompt >= context {
            return Err(SubmitError::PromptTooLong { prompt, context });
        }
        let vocab = shared.vocab;
        if let Some(&id) = request.prompt.iter().find(|&&id| id as usize >= vocab) {
            return Err(SubmitError::UnknownToken { id, vocab });
        }
        let room = context - prompt;
        let wanted = Some(request.max_tokens).filter(|&wanted| wanted <= room);
        let slots = shared.limits.slots;
        if request.scores_prompt() {
            // Every row of the prompt is computed: its logits are what is asked for.
            request.reuse = Reuse::Off;
        }
        let extra = extra_cost(&request, vocab);
        request.max_tokens = shared
            .admission
            .answer(prompt, wanted, room, slots, extra)?;
        let memory = shared
            .admission
            .reserve(prompt, request.max_tokens, extra)?;
        // A free slot takes a request at once, so the queue proper begins behind the slots.
        let in_flight = shared.heartbeat.read().in_flight;
        let room =
            (shared.limits.queue).saturating_add(shared.limits.slots.saturating_sub(in_flight));
        shared
            .waiting
            .fetch_update(Relaxed, Relaxed, |n| (n < room).then_some(n + 1))
            .map_err(|queued| SubmitError::QueueFull {
                queued,
                retry_after_s: shared.retry_after_s(queued),
            })?;
        // The engine's thread reports it only between two passes, and a pass can be long.
        shared.heartbeat.set_queued(shared.waiting.load(Relaxed));
        let (events, receiver) = mpsc::channel(UNREAD + LAST);
        let kept_memory = memory.kept();
        let job = QueuedRequest {
            request,
            events,
            memory,
        };
        self.inbox
            .send(Some(job))
            .map_err(|_| SubmitError::Stopped)?;
        Ok(Generation {
            events: receiver,
            kept: kept_memory,
        })
    }

    /// Its heartbeat.
    pub fn heartbeat(&self) -> &Arc<Heartbeat> {
        &self.shared.heartbeat
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<EngineStats> {
        &self.shared.stats
    }

    /// Whether prefixes are being reused.
    pub fn prefix_state(&self) -> PrefixState {
        self.shared.prefix.get()
    }

    /// How the disk fares that prefixes are kept on.
    pub fn prefix_disk(&self) -> PrefixDisk {
        self.shared.prefix.disk()
    }

    /// Its limits.
    pub fn limits(&self) -> EngineLimits {
        self.shared.limits
    }

    /// The memory budget of its sequences.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.shared.admission
    }

    /// Lowers the memory budget of its sequences, as [`Admission::lower`] does, and has the engine free what it keeps beyond that for
    /// reuse.
    ///
    /// # Errors
    /// Those of `choose`; then nothing changes.
    pub fn lower_budget<T, E>(
        &self,
        choose: impl FnOnce(HeldMemory) -> Result<(u64, T), E>,
    ) -> Result<T, E> {
        let found = self.shared.admission.lower(choose)?;
        // An engine that has stopped keeps nothing.
        let _ = self.inbox.send(None);
        Ok(found)
    }

    /// Tokens in the model's vocabulary.
    pub fn vocab(&self) -> usize {
        self.shared.vocab
    }

    /// The model's text side: tokenizer, template, end-of-sequence ids.
    pub fn text(&self) -> &Text {
        &self.shared.text
    }

    /// Refuses new requests from now on; those that were accepted are finished.
    pub fn drain(&self) {
        self.shared.heartbeat.enter(EnginePhase::Draining);
    }

    /// Waits until the engine's thread has ended; returns the reason. Waiting does not keep the engine running.
    pub fn stopped(&self) -> impl Future<Output = String> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            let reason = stopped.wait_for(Option::is_some).await;
            reason
                .ok()
                .and_then(|reason| reason.clone())
                .unwrap_or_else(|| "the engine's thread has ended".to_owned())
        }
    }

    /// Marks the engine as replaced: when the last handle is dropped, it finishes its requests on its own, and the thread
    /// that drops the handle does not wait.
    pub fn release(&self) {
        self.thread.is_released.store(true, Relaxed);
    }
}

/// What a request takes beside its caches.
fn extra_cost(request: &Request, vocab: usize) -> ExtraCost {
    let prompt = request.prompt.len();
    let answer_token = request.logprobs.map_or(0, TokenLogprob::bytes);
    let (kept, scored) = match request.scores_prompt() {
        true => (answer_token * prompt as u64, logits_bytes(prompt, vocab)),
        false => (0, 0),
    };
    // The logits that its sequence holds while its mask is late.
    let held = match request.constraint {
        Some(_) => (size_of::<f32>() * vocab) as u64,
        None => 0,
    };
    ExtraCost {
        answer_token,
        prompt: kept,
        running: scored + held,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
