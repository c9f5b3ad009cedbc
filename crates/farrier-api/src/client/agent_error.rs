//! Why a call of the agent's failed, and whether to try it again.

use super::agent::ServerAddress;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentClientError {
    #[error("cannot prepare TLS")]
    Prepare {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The other side is not who it must be. Trying again does not help, unless it changes.
    #[error("{server} is not the server this machine was told to trust: {cause}")]
    Untrusted {
        server: ServerAddress,
        cause: String,
    },
    #[error("cannot reach the server {server}: {cause}")]
    Unreachable {
        server: ServerAddress,
        cause: String,
    },
    /// The server answered, with a refusal.
    #[error("the server said no ({status}): {message}")]
    Refused {
        status: u16,
        code: String,
        message: String,
    },
    #[error("the server's answer makes no sense: {cause}")]
    Nonsense { cause: String },
}

impl AgentClientError {
    /// Whether the same call may work later without anybody doing anything to this machine.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Prepare { .. } | Self::Untrusted { .. } | Self::Nonsense { .. } => false,
        }
    }

    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Tells a server that is not ours from one that is away.
pub(super) fn transport(server: ServerAddress, error: &reqwest::Error) -> AgentClientError {
    let cause = chain(error);
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(cause) = inner.downcast_ref().and_then(distrust) {
            return AgentClientError::Untrusted { server, cause };
        }
        // The source of an I/O error skips the error it wraps, so that one is looked at by itself.
        let wrapped = inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        source = wrapped
            .map(|wrapped| wrapped as &(dyn std::error::Error + 'static))
            .or_else(|| inner.source());
    }
    AgentClientError::Unreachable { server, cause }
}

/// Why the other side is not who it must be, if that is what the error says.
fn distrust(error: &rustls::Error) -> Option<String> {
    match error {
        rustls::Error::InvalidCertificate(reason) => Some(reason.to_string()),
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            Some("it does not speak TLS 1.3".to_owned())
        }
        _ => None,
    }
}

/// The innermost reason says most; the outer ones repeat the URL.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
