//! The gate: every request of every route passes it, or is refused here.
//!
//! Who sent a request is decided from the connection that it came over ([`Peer`]) and, where that is not enough, from
//! the bearer token that it brings; nothing else in it can let it in. In this order:
//!
//! 1. `SANCTUM_DISABLE_AUTH=1`: everybody is let in.
//! 2. A client certificate: let in while the certificate is accepted.
//! 3. From this machine, and `loopback = "bypass"`: let in, under the rules of [`local`].
//! 4. The bearer token: let in. A request from this machine that breaks one of those rules may bring it too: a web page
//!    does not have the token, so that it proves what the rules can only suspect.
//! 5. Everybody else is refused.
//!
//! What is let in holds a place among its client's requests until the last byte of its answer is sent.

mod bearer;
mod caller;
mod local;
mod refusal;
mod sending;
#[cfg(any(test, fuzzing))]
pub mod surface;
#[cfg(test)]
mod tests;
mod token_file;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sanctum_config::ListenAddress;
use sanctum_config::fleet::Loopback;

pub use token_file::TokenFileError;

use crate::audit::{Account, Audit, Caller, Entry};
use crate::client_key::ClientKey;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::power::{RunningRequest, RunningRequests};
use crate::route::Route;
use bearer::Presented;
use caller::{Crowd, Method, Permit, counted_client};
use local::Host;
use refusal::Refusal;
use sending::Sending;
use token_file::TokenFile;

/// How often the log says again that nobody is asked.
const REMIND_EVERY: Duration = Duration::from_secs(600);

/// Every answer carries the id under which the audit log knows the request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who is let in.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Where the bearer token is; without one it lets nobody in.
    pub token: Option<TokenPath>,
    /// Whether this machine's own requests need the token.
    pub loopback: Loopback,
    /// Nobody is asked.
    pub disabled: bool,
    /// Requests of one client that may run or wait at once.
    pub per_client: NonZeroUsize,
}

impl Rules {
    /// The token's file as the operator wrote it, where this machine's own requests need it.
    pub fn token_of_loopback(&self) -> Option<&str> {
        let asked = self.loopback == Loopback::Required && !self.disabled;
        self.token
            .as_ref()
            .filter(|_| asked)
            .map(|token| token.shown.as_str())
    }
}

/// The path of the token file.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenPath {
    /// To open it.
    pub file: PathBuf,
    /// As the operator wrote it: what those who are refused are told.
    pub shown: String,
}

/// The gate of one server.
pub struct Gate {
    token: Option<(Arc<TokenFile>, String)>,
    loopback: Loopback,
    disabled: bool,
    /// What the server listens on.
    own: Vec<IpAddr>,
    crowd: Arc<Crowd>,
    metrics: Arc<Metrics>,
    audit: Audit,
    running: RunningRequests,
}

/// A request that is let in.
struct Admitted {
    method: Method,
    held: Held,
}

/// What a request has for as long as it runs.
struct Held {
    /// None where requests are not counted.
    _permit: Option<Permit>,
    /// None for what watchdogs and operators ask, which runs all the time.
    _running: Option<RunningRequest>,
}

impl Gate {
    /// Reads the token. `listen` are the addresses of the plain listeners.
    pub fn new(
        rules: Rules,
        listen: &[ListenAddress],
        metrics: Arc<Metrics>,
        audit: Audit,
    ) -> Result<Self, TokenFileError> {
        let open = |path: TokenPath| Ok((Arc::new(TokenFile::open(path.file)?), path.shown));
        metrics.auth_is(rules.disabled);
        for method in Method::ALL {
            metrics.auth_counter(method.as_str(), None).increment(0);
        }
        Ok(Self {
            token: rules.token.map(open).transpose()?,
            loopback: rules.loopback,
            disabled: rules.disabled,
            own: listen.iter().map(ListenAddress::ip).collect(),
            crowd: Crowd::new(rules.per_client),
            metrics,
            audit,
            running: RunningRequests::default(),
        })
    }

    /// The requests that run now, without those of watchdogs and operators.
    pub fn running_requests(&self) -> RunningRequests {
        self.running.clone()
    }

    /// Reads the token again, now. Returns whether its file, if there is one, can be used.
    pub fn reload(&self) -> bool {
        self.token.as_ref().is_none_or(|(token, _)| token.reload())
    }

    /// What the gate does beside answering: reads the token again when its file changes, and reminds of an open door.
    pub async fn watch(&self) {
        let follow = async {
            match &self.token {
                Some((token, _)) => TokenFile::follow(token.clone()).await,
                None => std::future::pending().await,
            }
        };
        let remind = async {
            if !self.disabled {
                return;
            }
            loop {
                tracing::warn!(
                    "SANCTUM_DISABLE_AUTH=1: whoever reaches this server may use it; unset it and restart to ask for \
                     credentials again"
                );
                tokio::time::sleep(REMIND_EVERY).await;
            }
        };
        tokio::join!(follow, remind);
    }

    /// Decides, and counts the decision.
    fn admit(&self, request: &Request, route: &Route) -> Result<Admitted, (Method, Refusal)> {
        let peer = request.extensions().get::<Peer>();
        let method = self.count(match peer {
            Some(peer) => self.judge(request, peer),
            None => Err((Method::None, Refusal::NoPeer)),
        })?;
        let name = peer.and_then(|peer| Some(peer.identity.as_ref()?.name()));
        if let (Method::Mtls, Some(name)) = (method, name) {
            self.metrics.client_request(name);
        }
        let client = peer.and_then(|peer| counted_client(method, peer));
        let permit = client
            .filter(|_| !route.is_operators())
            .map(|client| self.crowd.enter(client))
            .transpose()
            .map_err(|refusal| (method, refusal))?;
        let held = Held {
            _permit: permit,
            _running: (!route.is_operators()).then(|| self.running.begin()),
        };
        Ok(Admitted { method, held })
    }

    /// Whom an admitted request counts for.
    fn client(&self, request: &Request) -> Option<ClientKey> {
        let client = ClientKey::of_peer(request.extensions().get()?);
        // The token is not needed on loopback, and tells local programs apart where it is sent.
        Some(match client.is_loopback() && self.bearer(request).is_ok() {
            true => client.with_token(),
            false => client,
        })
    }

    fn count(
        &self,
        decision: Result<Method, (Method, Refusal)>,
    ) -> Result<Method, (Method, Refusal)> {
        let (method, reason) = match &decision {
            Ok(method) => (*method, None),
            Err((method, refusal)) => (*method, Some(refusal.reason())),
        };
        self.metrics
            .auth_counter(method.as_str(), reason)
            .increment(1);
        decision
    }

    /// How the request is let in, or as what it is refused and why.
    fn judge(&self, request: &Request, peer: &Peer) -> Result<Method, (Method, Refusal)> {
        if self.disabled {
            return Ok(Method::Disabled);
        }
        if let Some(identity) = &peer.identity {
            return match identity.is_trusted() {
                true => Ok(Method::Mtls),
                false => Err((Method::Mtls, Refusal::Certificate)),
            };
        }
        let is_local = local::is_loopback(peer.address.ip()) && self.loopback == Loopback::Bypass;
        let without_token = if is_local {
            Method::Loopback
        } else {
            Method::None
        };
        let host = Host::of(request).map_err(|refusal| (without_token, refusal))?;
        if !is_local {
            return self.bearer(request).map(|()| Method::Bearer);
        }
        match local::check(request, &host, &self.own) {
            Ok(()) => Ok(Method::Loopback),
            Err(_) if self.bearer(request).is_ok() => Ok(Method::Bearer),
            Err(refusal) => Err((Method::Loopback, refusal)),
        }
    }

    /// Whether the request brings the token.
    fn bearer(&self, request: &Request) -> Result<(), (Method, Refusal)> {
        let presented = Presented::of(request.headers());
        let method = match presented {
            Presented::None => Method::None,
            Presented::Malformed | Presented::Token(_) => Method::Bearer,
        };
        let Some((token, shown)) = &self.token else {
            return Err((method, Refusal::NoTokenHere));
        };
        let file = || shown.clone();
        match presented {
            Presented::Token(presented) if token.accepts(&presented) => Ok(()),
            Presented::Token(_) => Err((method, Refusal::TokenWrong { file: file() })),
            Presented::Malformed => Err((method, Refusal::TokenMalformed { file: file() })),
            Presented::None => Err((method, Refusal::TokenMissing { file: file() })),
        }
    }
}

/// The middleware. It stands around every route, the fallback included. What is admitted carries its [`ClientKey`] and its
/// [`Account`] in its extensions.
pub async fn guard(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let route = Route::of(&request);
    let admitted = gate.admit(&request, &route);
    let method = match &admitted {
        Ok(admitted) => admitted.method,
        Err((method, _)) => *method,
    };
    let account = Account::default();
    let caller = Caller::new(method.as_str(), request.extensions().get());
    let mut entry = Entry::new(gate.audit.clone(), account.clone(), route, caller);
    let id = HeaderValue::from_str(entry.id());
    let mut response = match admitted {
        Ok(Admitted { held, .. }) => {
            if let Some(client) = gate.client(&request) {
                request.extensions_mut().insert(client);
            }
            request.extensions_mut().insert(account);
            let response = next.run(request).await;
            entry.answered(response.status());
            response.map(|body| Sending::of(body, entry, Some(held)))
        }
        Err((_, refusal)) => {
            entry.refused(refusal.reason(), refusal.status());
            let response = refusal.into_response();
            response.map(|body| Sending::of(body, entry, None))
        }
    };
    if let Ok(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
