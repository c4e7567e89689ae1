//! The fields of a line.

use std::net::SocketAddr;

use serde::Serialize;

/// A line. The names are part of the interface: docs/auth.md lists them.
#[derive(Serialize)]
pub(crate) struct AuditLine<'a> {
    /// When the request arrived, as RFC 3339.
    pub time: String,
    /// The request's id, which its response has as `x-request-id`.
    pub request: &'a str,
    /// `mtls`, `bearer`, `loopback`, `disabled` or `none`.
    pub auth: &'static str,
    /// The certificate's name, else the same as `auth`.
    pub who: &'a str,
    /// The address of the client's socket.
    pub peer: Option<SocketAddr>,
    /// The HTTP method.
    pub method: &'static str,
    /// The route that matched.
    pub route: &'a str,
    /// The model, if the request got as far as naming one that is served.
    pub model: Option<&'a str>,
    /// The upstream that answered, where another server has the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_by: Option<&'a str>,
    /// The client for whom another server of the fleet has sent the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<&'a str>,
    /// Tokens of the prompt, if the engine accepted it.
    pub prompt_tokens: Option<usize>,
    /// Tokens generated.
    pub completion_tokens: Option<usize>,
    /// From the head of the request to the end of the response.
    pub duration_ms: u64,
    /// None where the client disconnected before a response began.
    pub status: Option<u16>,
    /// How the request ended.
    pub outcome: RequestOutcome,
    /// Why the gate refused it.
    pub reason: Option<&'static str>,
    /// Why the generation ended.
    pub finish_reason: Option<&'static str>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestOutcome {
    /// The response was sent to its end.
    Finished,
    /// The server cancelled it when it had to stop.
    Cancelled,
    /// The client disconnected before the end of the response.
    ClientGone,
    /// The gate or the API refused it.
    Refused,
    /// The server failed.
    Failed,
}
