//! Why a command fails, and its exit code.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use sanctum_config::ModelId;
use sanctum_engine::launch::LaunchError;
use sanctum_engine::load::LoadError;
use sanctum_engine::prefix::cold::ColdError;

use crate::audit::AuditError;
use crate::gate::TokenFileError;
use crate::listen::ListenError;
use crate::settings::SettingsError;
use crate::tls::TlsError;

/// A command that failed. The text is one line with the cause and the fix.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandFailure {
    /// The command line and fleet.toml do not make a server.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The bearer token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The cache folder cannot be listed or cleared.
    #[error(transparent)]
    Cache(#[from] ColdError),
    /// The backend is not available.
    #[error(transparent)]
    Backend(#[from] LaunchError),
    /// A model cannot be loaded.
    #[error("the model `{id}` cannot be loaded: {source}")]
    Load {
        /// Which.
        id: ModelId,
        /// Why not.
        source: Box<LaunchError>,
    },
    /// The built-in model cannot be written.
    #[error("cannot write the model to {}: {source}; name a folder that you may write to", dir.display())]
    Export {
        /// Where to.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A model cannot be measured.
    #[error("nothing to measure: {0}")]
    Bench(#[from] LoadError),
    /// A file of the benchmark cannot be used.
    #[error("cannot use {}: {why}", file.display())]
    BenchFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// The engine of the benchmark failed.
    #[error("the engine does not generate: {0}")]
    BenchEngine(String),
    /// Loading panicked; the panic's own message was printed before this.
    #[error("loading ended without a result; the message above has the reason")]
    LoaderDied,
    /// An engine ended while it served.
    #[error("the engine of `{id}` died: {reason}")]
    EngineDied {
        /// The model.
        id: ModelId,
        /// Why.
        reason: String,
    },
    /// The system refused something.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

impl CommandFailure {
    /// The exit code, as `--help` documents it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::EngineDied { .. } => ExitCode::from(3),
            _ => ExitCode::from(1),
        }
    }
}
