//! A server without sockets, with an engine that sends the events of a test.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::middleware::map_request;
use axum::response::Response;
use http_body_util::BodyExt;
use sanctum_config::ModelAlias;
use sanctum_config::fleet::{Loopback, PrefixCacheScope};
use sanctum_engine::launch::{LaunchOptions, MemoryShare};
use sanctum_engine::schedule::{Engine, EngineLimits, Inbox, QueuedRequest};
use sanctum_engine::schedule::{Event, FinishReason, TokenLogprob, Usage};
use sanctum_engine::text::ChatTemplate;
use sanctum_engine::text::Text;
use sanctum_engine::text::Tokenizer;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use crate::api::body::BodyLimit;
use crate::api::{AppState, ResponseStore, router};
use crate::audit::AuditLog;
use crate::front::Fronts;
use crate::gate::{AccessRules, Gate};
use crate::metrics::Metrics;
use crate::models::{AdapterSwaps, Models, Ready};
use crate::peer::Peer;
use crate::prepare::PreparationQueue;
use crate::shutdown::Shutdown;

/// Messages as ChatML, an open think block where thinking is enabled, and a rule that can be broken.
const TEMPLATE: &str = "{%- for m in messages %}\
    {%- if m.role == 'system' and not loop.first %}{{ raise_exception('System message must be at the beginning.') }}{% endif %}\
    {%- if m.content == 'forbidden' %}{{ raise_exception('This content is forbidden.') }}{% endif %}\
    <{{ m.role }}>{{ m.content }}{% endfor %}\
    {%- if tools %}<tools>{{ tools | length }}{% endif %}\
    {%- if enable_thinking %}<think>\n{% endif %}";

/// Tokens of the scripted model: one for each byte, whose id is the byte.
pub(crate) const VOCAB: usize = 256;
/// Tokens that its context holds.
pub(crate) const CONTEXT: usize = 1000;

/// The server under test.
pub(crate) struct TestServer {
    /// All routes, asked by a program on this machine.
    pub router: Router,
    /// Their state.
    pub app: Arc<AppState>,
    /// Where the requests of the first model arrive.
    pub inbox: Inbox,
}

/// A response.
#[derive(Debug)]
pub(crate) struct TestResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl TestServer {
    /// A server of one model, `council`.
    pub(crate) fn new() -> Self {
        Self::with_queue(4)
    }

    /// The same with a queue of another length; there is one slot.
    pub(crate) fn with_queue(queue: usize) -> Self {
        Self::of(loading(), queue)
    }

    /// A server that refuses unknown fields.
    pub(crate) fn strict() -> Self {
        let app = loading_with(Vec::new(), |app| app.strict_fields = true);
        Self::of(app, 4)
    }

    /// A server whose model has these aliases.
    pub(crate) fn with_aliases(aliases: &[&str]) -> Self {
        let aliases = aliases.iter().map(|alias| alias.parse().unwrap()).collect();
        Self::of(loading_with(aliases, |_| {}), 4)
    }

    /// A server whose model has another chat template.
    pub(crate) fn with_template(source: &str) -> Self {
        Self::of_template(loading(), 4, source)
    }

    fn of(app: Arc<AppState>, queue: usize) -> Self {
        Self::of_template(app, queue, TEMPLATE)
    }

    fn of_template(app: Arc<AppState>, queue: usize, template: &str) -> Self {
        let served = app.models.pick(None).unwrap();
        let limits = EngineLimits {
            slots: 1,
            queue,
            prefill_chunk: 8,
            context: CONTEXT,
        };
        let text = Text::new(
            tokenizer(),
            Some(ChatTemplate::new(template).unwrap()),
            // Constraints need a token that ends an answer.
            vec![0],
        );
        let (engine, inbox) = Engine::wire(text, VOCAB, limits, served.heartbeat().clone());
        served.loaded(Ready {
            engine,
            fingerprint: "fp_test".into(),
            created: 1_700_000_000,
            adapter: None,
            memory: MemoryShare {
                weights: 0,
                most: u64::MAX,
            },
        });
        Self {
            router: local(&app),
            app,
            inbox,
        }
    }

    /// The next request that reaches the engine.
    pub(crate) async fn job(&self) -> QueuedRequest {
        for _ in 0..2000 {
            match self.inbox.jobs.try_recv() {
                Ok(Some(job)) => return job,
                Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        panic!("no request reached the engine");
    }

    /// Sends a request, which the engine answers with `events`, and returns the engine's job and the response.
    pub(crate) async fn ask(
        &self,
        path: &str,
        body: Value,
        events: Vec<Event>,
    ) -> (QueuedRequest, TestResponse) {
        let script = async {
            let job = self.job().await;
            for event in events {
                job.events.try_send(event).unwrap();
            }
            QueuedRequest {
                request: job.request,
                events: tokio::sync::mpsc::channel(1).0,
                memory: job.memory,
            }
        };
        let (answer, job) = tokio::join!(self.post(path, body), script);
        (job, answer)
    }

    /// A POST of JSON.
    pub(crate) async fn post(&self, path: &str, body: Value) -> TestResponse {
        self.send(post(path, body)).await
    }

    /// A GET.
    pub(crate) async fn get(&self, path: &str) -> TestResponse {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    /// Any request.
    pub(crate) async fn send(&self, request: Request<Body>) -> TestResponse {
        let response = self.router.clone().oneshot(request).await.unwrap();
        TestResponse::read(response).await
    }
}

/// The state of a server whose model is not loaded yet, which accepts this machine and keeps no audit log.
pub(crate) fn loading() -> Arc<AppState> {
    loading_with(Vec::new(), |_| {})
}

fn loading_with(aliases: Vec<ModelAlias>, change: impl FnOnce(&mut AppState)) -> Arc<AppState> {
    let rules = AccessRules {
        token: None,
        loopback: Loopback::Bypass,
        disabled: false,
        origins: Vec::new(),
        hosts: Vec::new(),
        fronts: Vec::new(),
        per_client: NonZeroUsize::MIN,
    };
    let metrics = Arc::new(Metrics::new());
    let audit = AuditLog::off(metrics.clone());
    let gate = Gate::new(rules, &[], metrics.clone(), audit).unwrap();
    let models = Arc::new(Models::new([("council".parse().unwrap(), aliases)], false));
    let shutdown = Shutdown::new();
    let options = LaunchOptions::default();
    let mut app = AppState {
        swaps: AdapterSwaps::new(models.clone(), &[], options, None, shutdown.clone()),
        models,
        sharing: PrefixCacheScope::default(),
        fronts: Fronts::none(),
        bodies: BodyLimit::default(),
        responses: ResponseStore::default(),
        threads: ResponseStore::default(),
        preparing: PreparationQueue::start().unwrap(),
        metrics,
        shutdown,
        gate: Arc::new(gate),
        strict_fields: false,
    };
    change(&mut app);
    Arc::new(app)
}

/// All routes, asked by a program on this machine.
pub(crate) fn local(app: &Arc<AppState>) -> Router {
    async fn introduce(mut request: Request<Body>) -> Request<Body> {
        let address = SocketAddr::from(([127, 0, 0, 1], 50_000));
        let identity = None;
        request.extensions_mut().insert(Peer { address, identity });
        let host = HeaderValue::from_static("127.0.0.1:1337");
        request.headers_mut().insert(header::HOST, host);
        request
    }
    router(app.clone()).layer(map_request(introduce))
}

/// A POST of JSON.
pub(crate) fn post(path: &str, body: Value) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

impl TestResponse {
    pub(crate) async fn read(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The data of its server-sent events.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.text
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").expect("an event of data"))
            .collect()
    }

    /// The chunks of a stream that ended well.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let mut events = self.events();
        assert_eq!(events.pop(), Some("[DONE]"), "{}", self.text);
        let parse = |data: &str| serde_json::from_str(data).unwrap();
        events.into_iter().map(parse).collect()
    }

    /// Status, param and code of an error.
    pub(crate) fn error(&self) -> (u16, Value, Value) {
        let error = &self.json()["error"];
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert!(error["type"].is_string());
        (
            self.status.as_u16(),
            error["param"].clone(),
            error["code"].clone(),
        )
    }
}

/// A token event.
pub(crate) fn token(text: &str) -> Event {
    Event::Token {
        id: 0,
        text: text.into(),
        logprob: None,
    }
}

/// A token event with its log probability and one other candidate, `?`.
pub(crate) fn likely(text: &str, logprob: f32) -> Event {
    let id = text.bytes().next().unwrap_or(b'x').into();
    Event::Token {
        id,
        text: text.into(),
        logprob: Some(TokenLogprob {
            id,
            logprob,
            top: [(id, logprob), (b'?'.into(), -3.0)].into(),
        }),
    }
}

/// The last event.
pub(crate) fn finished(reason: FinishReason, held: &str) -> Event {
    Event::Finished {
        stop: None,
        eos: None,
        reason,
        text: held.into(),
        usage: Usage {
            prompt_tokens: 5,
            completion_tokens: 2,
            cached_tokens: 3,
        },
    }
}

/// One token a byte.
pub(crate) fn tokenizer() -> Tokenizer {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut stand_ins = 0x100..;
    let letter = |byte| match printable(byte) {
        true => byte,
        false => stand_ins.next().unwrap(),
    };
    let vocab: Map<String, Value> = (0..=255)
        .map(letter)
        .enumerate()
        .map(|(id, letter)| (char::from_u32(letter).unwrap().to_string(), id.into()))
        .collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [],
        },
    });
    Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
}
