//! The values of arguments.

use std::net::IpAddr;
use std::str::FromStr;

use clap::ValueEnum;
use sanctum_config::fleet::Loopback;
use sanctum_config::{BadAddress, HostAddress, ListenAddress, ModelId, TildePath};

/// The default port of TLS listeners.
const TLS_PORT: u16 = 1338;

/// The backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendArg {
    /// The best that this build and machine have
    Auto,
    /// Pure Rust, on all cores
    Cpu,
    /// MLX: Metal or CUDA, or MLX's CPU device where neither is
    Mlx,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostArg(pub HostAddress);

/// An address to listen on for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsHostArg(pub ListenAddress);

/// What requests over loopback need.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LoopbackArg {
    /// No token
    Bypass,
    /// The token, as from anywhere else
    Required,
}

impl From<LoopbackArg> for Loopback {
    fn from(arg: LoopbackArg) -> Self {
        match arg {
            LoopbackArg::Bypass => Self::Bypass,
            LoopbackArg::Required => Self::Required,
        }
    }
}

/// A checkpoint folder and the id that requests name it by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelArg {
    /// The given one, or the folder's name.
    pub id: ModelId,
    /// The folder.
    pub path: TildePath,
}

/// A model and another server that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamArg {
    /// The id that requests name the model by.
    pub id: ModelId,
    /// `http://HOST:PORT`.
    pub base: String,
    /// `HOST:PORT`.
    pub address: String,
}

impl FromStr for UpstreamArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, url) = text
            .split_once('=')
            .ok_or("write ID=URL, such as qwen=http://192.0.2.20:1337")?;
        let address = url
            .strip_prefix("http://")
            .map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let is_address = |address: &&str| {
            !address.is_empty()
                && address
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-:[]%_".contains(c))
        };
        let address = address.filter(is_address).ok_or(
            "the URL must be http://HOST:PORT, without `/v1`; for https and for tokens name the upstream in fleet.toml",
        )?;
        Ok(Self {
            id: id.parse().map_err(|error| format!("{error}"))?,
            base: format!("http://{address}"),
            address: address.to_owned(),
        })
    }
}

impl FromStr for HostArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "localhost" {
            return Ok(Self(IpAddr::from([127, 0, 0, 1]).into()));
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        bare.unwrap_or(text)
            .parse()
            .map(Self)
            .map_err(|error: BadAddress| error.to_string())
    }
}

impl FromStr for TlsHostArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let alone = match text.parse::<HostArg>() {
            Ok(host) => return Ok(Self(host.0.with_port(TLS_PORT))),
            Err(error) => error,
        };
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(alone);
        };
        match (host.parse::<HostArg>(), port.parse()) {
            (Ok(host), Ok(port)) => Ok(Self(host.0.with_port(port))),
            // What is wrong with the address itself.
            (Err(error), Ok(_)) if host.ends_with(']') => Err(error),
            _ if text.starts_with("fe80") => Err(alone),
            _ => Err(
                "write an IP address such as 100.64.0.25, 100.64.0.25:1338 or [::1]:1338".into(),
            ),
        }
    }
}

impl FromStr for ModelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A text that begins like a path is a path, even with a `=` in it.
        let (id, path) = match text.split_once('=') {
            Some((id, path)) if !id.starts_with(['/', '.', '~']) => (Some(id), path),
            _ => (None, text),
        };
        let path: TildePath = path.parse()?;
        let id = match id {
            Some(id) => id.parse().map_err(|error| format!("{error}"))?,
            None => id_of_folder(&path)?,
        };
        Ok(Self { id, path })
    }
}

fn id_of_folder(path: &TildePath) -> Result<ModelId, String> {
    let folder = path.here().map_err(|error| error.to_string())?;
    // `.` and `..` have a name only once they are resolved.
    let folder = folder.canonicalize().unwrap_or(folder);
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.parse()
        .map_err(|error| format!("{error}; name it yourself: --model ID={path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_has_the_given_id_or_its_folders_name() {
        let model = |text: &str| {
            text.parse::<ModelArg>()
                .map(|m| (m.id.to_string(), m.path.to_string()))
        };
        let both = |id: &str, path: &str| Ok((id.to_owned(), path.to_owned()));
        assert_eq!(model("council=~/models/a"), both("council", "~/models/a"));
        assert_eq!(model("org/name=rel/dir"), both("org/name", "rel/dir"));
        assert_eq!(
            model("/models/qwen3.5-4b"),
            both("qwen3.5-4b", "/models/qwen3.5-4b")
        );
        assert_eq!(model("/models/a=b"), both("a=b", "/models/a=b"));
        assert!(
            model("/models/two words")
                .unwrap_err()
                .contains("--model ID=/models/two words")
        );
        assert!(model("a b=/x").is_err());
        assert!(model("id=").is_err());
    }

    #[test]
    fn host_is_an_address() {
        assert_eq!(
            "localhost".parse::<HostArg>().unwrap().0.to_string(),
            "127.0.0.1"
        );
        assert_eq!("[::1]".parse::<HostArg>().unwrap().0.to_string(), "::1");
        assert!("example.org".parse::<HostArg>().is_err());
        let tls = |text: &str| text.parse::<TlsHostArg>().map(|host| host.0.to_string());
        assert_eq!(tls("10.0.0.1").unwrap(), "10.0.0.1:1338");
        assert_eq!(tls("::1").unwrap(), "[::1]:1338");
        assert_eq!(tls("[::1]:99").unwrap(), "[::1]:99");
        assert_eq!(tls("localhost:0").unwrap(), "127.0.0.1:0");
        assert!(tls("10.0.0.1:http").is_err());
        assert_eq!(tls("fe80::1%en0").unwrap(), "[fe80::1%en0]:1338");
        assert_eq!(tls("[fe80::1%en0]:99").unwrap(), "[fe80::1%en0]:99");
        for bare in ["fe80::1", "[fe80::1]:99"] {
            assert!(tls(bare).unwrap_err().contains("fe80::1%en0"), "{bare}");
        }
        let error = "fe80::1".parse::<HostArg>().unwrap_err();
        assert!(error.contains("fe80::1%en0"), "{error}");
    }
}
