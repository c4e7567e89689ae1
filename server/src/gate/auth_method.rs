//! How a client is authenticated.

/// How a request was accepted, or what it presented when it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthMethod {
    /// A client certificate.
    Mtls,
    /// The bearer token.
    Bearer,
    /// It came from this machine.
    Loopback,
    /// Authentication is disabled.
    Disabled,
    /// It is a browser's preflight, which never has credentials and gets no more than permission to ask.
    Preflight,
    /// It asks for the console's page, which every client may have, and presented nothing or a wrong token.
    Public,
    /// It presented nothing.
    None,
}

impl AuthMethod {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Mtls,
        Self::Bearer,
        Self::Loopback,
        Self::Disabled,
        Self::Preflight,
        Self::Public,
        Self::None,
    ];

    /// The name in metrics and in the audit log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Bearer => "bearer",
            Self::Loopback => "loopback",
            Self::Disabled => "disabled",
            Self::Preflight => "preflight",
            Self::Public => "public",
            Self::None => "none",
        }
    }
}
