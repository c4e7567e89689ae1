//! A client of one server: a Sanctum server, or any other server of the OpenAI API.
//!
//! Three steps lead from `fleet.toml` to an answer:
//!
//! 1. [`ServerEndpoint`] chooses the address and the credentials. A caller on the server's own host uses the loopback address
//!    without credentials. A caller on another host uses mutual TLS where the server listens for it and the caller has a
//!    certificate, else plain HTTP with the bearer token.
//! 2. [`Client::new`] reads the credentials from disk. Make a new client for every check, so that renewed files count at once.
//! 3. [`Client::liveness`], [`Client::health`], [`Client::models`], [`Client::chat`] and [`Client::metrics`] send one request
//!    each, limited in time and in what they read. Their error is a [`ClientError`], which distinguishes a server that is
//!    busy, refuses the credentials, answers something else, or does not answer.
//!
//! ```
//! use std::path::Path;
//! use std::time::Duration;
//! use sanctum_client::{ChatRequest, Client, ClientError, ServerEndpoint};
//! use sanctum_config::{Fleet, Home};
//!
//! let text = r#"
//!     [hosts.mini]
//!     address = "192.0.2.25"
//!     [servers.server]
//!     host = "mini"
//!     listen = ["127.0.0.1:1"]
//! "#;
//! let config = Path::new("/etc/sanctum/fleet.toml");
//! let fleet = Fleet::parse(text, config)?;
//! let home = Home::new("/var/lib/sanctum".into(), "/home/op".into());
//! let endpoint = ServerEndpoint::from_host(&fleet, config, &home, &"mini".parse()?, &"server".parse()?)?;
//! assert_eq!(endpoint.base, "http://127.0.0.1:1");
//!
//! let client = Client::new(&endpoint, Duration::from_secs(5))?;
//! let request = ChatRequest::user("What is 2+2?", 8);
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! match client.chat(&request).await {
//!     Ok(answer) => println!("{} after {:?}", answer.value.text, answer.latency),
//!     // Nothing listens on port 1.
//!     Err(error) => assert!(matches!(error, ClientError::Unreachable { .. })),
//! }
//! # });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body_parts;
mod chat;
mod client;
mod connections;
mod credentials;
mod endpoint;
mod error;
mod expected;
mod forwarder;
mod health;
pub mod http;
mod liveness;
mod no_route;
mod reference;

pub use chat::{ChatMessage, ChatRequest, ChatResponse};
pub use client::{Client, Timed};
pub use credentials::CredentialsError;
pub use endpoint::{Credentials, EndpointError, ServerEndpoint};
pub use error::{ClientError, root_cause};
pub use expected::contains_answer;
pub use forwarder::{ForwardedResponse, Forwarder};
pub use health::{FailedPrefixCheck, Health, HeartbeatReading, PREPARATION, ServerPhase};
pub use liveness::Liveness;
pub use reference::{BadReference, ReferenceAddress};
