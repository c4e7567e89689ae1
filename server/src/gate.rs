//! The gate: every request of every route is accepted or refused here.
//!
//! Who sent a request is decided from the connection that it came over ([`Peer`]) and, where that is not enough, from
//! the bearer token that it brings; nothing else in it can get it accepted. In this order:
//!
//! 1. `SANCTUM_DISABLE_AUTH=1`: every request is accepted.
//! 2. A client certificate: accepted while the certificate is, except for requests of other websites' pages: a browser
//!    sends the certificate with these too.
//! 3. From this machine, and `loopback = "bypass"`: accepted, under the rules of [`loopback`].
//! 4. The bearer token: accepted. A request from this machine that breaks one of those rules may bring it too: a web page
//!    does not have the token, so the token proves what the rules can only suspect.
//! 5. All other requests are refused.
//!
//! The console's page is the same for every client and has no secret in it: it is served without the token too, so that it
//! can ask for the token. The requests that it sends pass the gate like all others.
//!
//! A browser's preflight from an allowed origin is answered before all of these: it never has credentials. The request that
//! follows it passes the gate like any other.
//!
//! The gate opens a [`RequestRecord`] for each request, accepted or not. It carries the request's identity, its line in the
//! audit log, its metrics and its permits to the end of the response.

mod auth_method;
mod bearer;
mod forwarded;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod loopback;
mod origins;
mod record;
mod refusal;
mod request_limit;
mod rules;
#[cfg(test)]
mod tests;
mod token_file;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use sanctum_config::fleet::Loopback;
use sanctum_config::{HostName, ListenAddress};

pub(crate) use auth_method::AuthMethod;
pub(crate) use origins::{AllowedOrigins, AllowedReader};
pub(crate) use record::{GenerationRecord, RequestRecord};
pub(crate) use refusal::Refusal;
pub(crate) use rules::{AccessRules, TokenPath};
pub(crate) use token_file::TokenFileError;

use crate::activity::{RecentClients, RecentRefusals};
use crate::audit::AuditLog;
use crate::client_key::ClientKey;
use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::power::RunningRequests;
use crate::route::Route;
use bearer::Presented;
use forwarded::Forwarded;
use loopback::RequestHost;
use request_limit::RequestLimit;
use token_file::TokenFile;

/// How often the log repeats that authentication is disabled.
const REMIND_EVERY: Duration = Duration::from_secs(600);

/// The gate of one server.
pub(crate) struct Gate {
    token: Option<(Arc<TokenFile>, String)>,
    loopback: Loopback,
    disabled: bool,
    /// Names of the servers that say for whom they ask.
    fronts: Vec<String>,
    /// The addresses that the server listens on.
    own: Vec<IpAddr>,
    /// Its further names.
    names: Vec<HostName>,
    origins: AllowedOrigins,
    limit: Arc<RequestLimit>,
    metrics: Arc<Metrics>,
    audit: AuditLog,
    running: RunningRequests,
    clients: Arc<RecentClients>,
    refusals: Arc<RecentRefusals>,
}

/// What is accepted.
#[derive(Debug, PartialEq)]
pub(crate) enum Admitted {
    /// The request of this client.
    Client(ClientKey),
    /// A request for the console's page, of any client.
    Public,
    /// A browser's question whether a page may send a request.
    Preflight,
}

impl Gate {
    /// Reads the token. `listen` are the addresses of the plain listeners.
    ///
    /// # Errors
    /// If the token cannot be read.
    pub(crate) fn new(
        rules: AccessRules,
        listen: &[ListenAddress],
        metrics: Arc<Metrics>,
        audit: AuditLog,
    ) -> Result<Self, TokenFileError> {
        let open = |path: TokenPath| Ok((Arc::new(TokenFile::open(path.file)?), path.shown));
        metrics.auth_is(rules.disabled);
        for method in AuthMethod::ALL {
            metrics.auth_counter(method.as_str(), None).increment(0);
        }
        Ok(Self {
            token: rules.token.map(open).transpose()?,
            loopback: rules.loopback,
            disabled: rules.disabled,
            fronts: rules.fronts,
            own: listen.iter().map(ListenAddress::ip).collect(),
            names: rules.hosts,
            origins: AllowedOrigins::new(rules.origins),
            limit: RequestLimit::new(rules.per_client),
            metrics,
            audit,
            running: RunningRequests::default(),
            clients: Arc::default(),
            refusals: Arc::default(),
        })
    }

    /// The pages that may read answers.
    pub(crate) fn origins(&self) -> &AllowedOrigins {
        &self.origins
    }

    /// The requests that run now, without those of watchdogs and operators.
    pub(crate) fn running_requests(&self) -> RunningRequests {
        self.running.clone()
    }

    /// The clients that have requests.
    pub(crate) fn clients(&self) -> &RecentClients {
        &self.clients
    }

    /// What was refused last.
    pub(crate) fn refusals(&self) -> &Arc<RecentRefusals> {
        &self.refusals
    }

    /// Reads the token again, now. Returns whether its file, if there is one, can be used.
    pub(crate) fn reload(&self) -> bool {
        self.token.as_ref().is_none_or(|(token, _)| token.reload())
    }

    /// Reads the token again when its file changes, and reminds the operator where authentication is disabled. Runs for
    /// ever.
    pub(crate) async fn watch(&self) {
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
                    "SANCTUM_DISABLE_AUTH=1: every client that reaches this server may use it; unset it and restart to require \
                     credentials again"
                );
                tokio::time::sleep(REMIND_EVERY).await;
            }
        };
        tokio::join!(follow, remind);
    }

    /// Accepts a request, and returns the client that it counts for, or refuses it. The decision is counted. Either way
    /// the record must be kept until the response has been sent.
    pub(crate) fn admit(&self, request: &Request) -> (RequestRecord, Result<Admitted, Refusal>) {
        let route = Route::of(request);
        let is_for_operators = route.is_for_operators();
        let peer = request.extensions().get::<Peer>().cloned();
        if peer.is_some() && self.origins.allow_preflight(request) {
            let method = AuthMethod::Preflight;
            self.metrics
                .auth_counter(method.as_str(), None)
                .increment(1);
            return (self.record(route, method, peer), Ok(Admitted::Preflight));
        }
        let (method, authenticated) = match &peer {
            Some(peer) => self.authenticate(request, peer),
            None => (AuthMethod::None, Err(Refusal::NoPeer)),
        };
        if route.is_public()
            && let Err(refusal) = &authenticated
            && refusal.is_about_the_token()
        {
            let method = AuthMethod::Public;
            self.metrics
                .auth_counter(method.as_str(), None)
                .increment(1);
            return (self.record(route, method, peer), Ok(Admitted::Public));
        }
        let reason = authenticated.as_ref().err().map(Refusal::reason);
        self.metrics
            .auth_counter(method.as_str(), reason)
            .increment(1);
        let identity = peer.as_ref().and_then(|peer| peer.identity.as_ref());
        if let (Ok(_), AuthMethod::Mtls, Some(identity)) = (&authenticated, method, identity) {
            self.metrics.client_request(identity.name());
        }
        let front = match (&authenticated, method, identity) {
            (Ok(_), AuthMethod::Mtls, Some(identity)) => Some(identity.name()),
            _ => None,
        };
        let front = front.filter(|name| self.fronts.iter().any(|front| front == name));
        let forwarded = front.map(|front| (Forwarded::of(request.headers()), front));
        let of_front = forwarded
            .as_ref()
            .and_then(|(said, front)| said.client_key(front));
        let is_counted_there = forwarded
            .as_ref()
            .is_none_or(|(said, _)| !said.is_of_loopback());
        let forwarded = forwarded.map(|(said, _)| said);
        let mut record = self.record(route, method, peer.clone());
        if let Some(forwarded) = forwarded {
            record.forwarded(forwarded);
        }
        let admitted = authenticated.and_then(|client| {
            let client = of_front.unwrap_or(client);
            if !is_for_operators {
                if is_counted_there && is_counted(method, &client) {
                    record.permit = Some(self.limit.acquire(client.clone())?);
                }
                record.running = Some(self.running.begin());
            }
            record.enter(&self.clients, client.clone());
            Ok(Admitted::Client(client))
        });
        if let Err(refusal) = &admitted {
            record.refused(refusal);
        }
        (record, admitted)
    }

    fn record(&self, route: Route, method: AuthMethod, peer: Option<Peer>) -> RequestRecord {
        let (audit, metrics) = (self.audit.clone(), self.metrics.clone());
        RequestRecord::new(route, method, peer, audit, metrics, self.refusals.clone())
    }

    /// How the request is authenticated, and as which client; or what it presented, and why it is refused.
    fn authenticate(
        &self,
        request: &Request,
        peer: &Peer,
    ) -> (AuthMethod, Result<ClientKey, Refusal>) {
        let client = ClientKey::of_peer(peer);
        if let (Some(identity), false) = (&peer.identity, self.disabled) {
            let certified = if !identity.is_trusted() {
                Err(Refusal::Certificate)
            } else if self.is_of_another_page(request) && self.check_token(request).1.is_err() {
                Err(Refusal::Origin)
            } else {
                Ok(client)
            };
            return (AuthMethod::Mtls, certified);
        }
        let (presented, token) = self.check_token(request);
        // Loopback does not need the token, which tells local programs apart where they send it.
        let client = match token {
            Ok(()) => client.with_token(),
            Err(_) => client,
        };
        if self.disabled {
            return (AuthMethod::Disabled, Ok(client));
        }
        let bypass = loopback::is_loopback(peer.address.ip()) && self.loopback == Loopback::Bypass;
        let host = match RequestHost::of(request) {
            Ok(host) => host,
            Err(refusal) if bypass => return (AuthMethod::Loopback, Err(refusal)),
            Err(refusal) => return (AuthMethod::None, Err(refusal)),
        };
        if !bypass {
            let token = token.map_err(|refusal| match origins::is_preflight(request) {
                // A preflight never has a token: what is missing is the page's origin.
                true => Refusal::Origin,
                false => refusal,
            });
            return (presented, token.map(|()| client));
        }
        let is_named = self.origins.names(request.headers());
        let rules = loopback::LoopbackRules {
            own: &self.own,
            names: &self.names,
            is_named_origin: is_named,
        };
        match (loopback::check(request, &host, &rules), token) {
            (Ok(()), _) => (AuthMethod::Loopback, Ok(client)),
            (Err(_), Ok(())) => (AuthMethod::Bearer, Ok(client)),
            (Err(refusal), Err(_)) => (AuthMethod::Loopback, Err(refusal)),
        }
    }

    /// Whether a page that is neither the console nor one of a listed origin has sent the request over TLS.
    fn is_of_another_page(&self, request: &Request) -> bool {
        let headers = request.headers();
        headers.contains_key(header::ORIGIN)
            && !self.origins.names(headers)
            && !origins::is_own(headers, "https")
    }

    /// What the request presents, and whether it is the token.
    fn check_token(&self, request: &Request) -> (AuthMethod, Result<(), Refusal>) {
        let presented = Presented::of(request.headers());
        let method = match presented {
            Presented::None => AuthMethod::None,
            Presented::Malformed | Presented::Token(_) => AuthMethod::Bearer,
        };
        let Some((token, shown)) = &self.token else {
            return (method, Err(Refusal::NoTokenHere));
        };
        let file = shown.clone();
        let checked = match presented {
            Presented::Token(presented) if token.accepts(&presented) => Ok(()),
            Presented::Token(_) => Err(Refusal::TokenWrong { file }),
            Presented::Malformed => Err(Refusal::TokenMalformed { file }),
            Presented::None => Err(Refusal::TokenMissing { file }),
        };
        (method, checked)
    }
}

/// Whether a request counts for its client. Requests from this machine that need no credentials do not: local programs
/// cannot be distinguished, and one of them must not use up the permits of the others. The engine's queue limits them.
fn is_counted(method: AuthMethod, client: &ClientKey) -> bool {
    let needs_none = matches!(method, AuthMethod::Loopback | AuthMethod::Disabled);
    !(needs_none && client.is_loopback())
}
