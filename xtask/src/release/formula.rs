//! The Homebrew formula of a release: it installs the tarball's folder as it is, with its release.json, so that
//! `sanctum-launchd install --release` takes it from Homebrew's folder.
//!
//! <https://docs.brew.sh/Formula-Cookbook>

use super::ReleaseError;

/// What a formula says.
pub(super) struct Formula<'a> {
    /// The release's version.
    pub(super) version: &'a str,
    /// Where the tarball is.
    pub(super) url: &'a str,
    /// The tarball's SHA-256.
    pub(super) sha256: &'a str,
    /// Whether the programs are for macOS; else for Linux.
    pub(super) is_macos: bool,
    /// Whether they are for 64-bit ARM; else for x86-64.
    pub(super) is_arm: bool,
}

impl Formula<'_> {
    /// The text of `sanctum.rb`.
    pub(super) fn text(&self) -> Result<String, ReleaseError> {
        let Self {
            version,
            url,
            sha256,
            is_macos,
            is_arm,
        } = self;
        // `#` begins an interpolation, and a quote ends the string.
        if url
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || "\"'\\#".contains(c))
        {
            return Err(ReleaseError::Url((*url).to_owned()));
        }
        let arch = if *is_arm { "arm64" } else { "x86_64" };
        // MLX's kernels need macOS 14.
        let system = if *is_macos {
            "macos: :sonoma"
        } else {
            ":linux"
        };
        Ok(format!(
            r##"class Sanctum < Formula
  desc "Private LLM server, and the watchdogs that keep it up"
  url "{url}"
  version "{version}"
  sha256 "{sha256}"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on arch: :{arch}
  depends_on {system}

  # release.json has the digests of the programs: they must stay as they are.
  skip_clean "libexec"

  def install
    libexec.install Dir["*"]
    bin.install_symlink Dir[libexec/"sanctum-*"]
  end

  def caveats
    <<~EOS
      A first fleet, and its installation on this host:
        sanctum-launchd init
        sanctum-launchd install --config fleet.toml --host NAME --release #{{opt_libexec}}
      After an upgrade of this formula:
        sanctum-launchd upgrade --release #{{opt_libexec}}
    EOS
  end

  test do
    assert_match "sanctum-launchd", shell_output("#{{bin}}/sanctum-launchd --version")
    assert_path_exists libexec/"release.json"
  end
end
"##
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formula(url: &str) -> Result<String, ReleaseError> {
        Formula {
            version: "0.1.0",
            url,
            sha256: "ab",
            is_macos: true,
            is_arm: true,
        }
        .text()
    }

    #[test]
    fn formula_installs_the_whole_folder() {
        let text = formula("https://example.net/sanctum-0.1.0-aarch64-macos.tar.gz").unwrap();
        for line in [
            "  url \"https://example.net/sanctum-0.1.0-aarch64-macos.tar.gz\"",
            "  sha256 \"ab\"",
            "  depends_on arch: :arm64",
            "  depends_on macos: :sonoma",
            "    libexec.install Dir[\"*\"]",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(text.contains("--release #{opt_libexec}"), "{text}");
    }

    #[test]
    fn formula_with_ruby_in_its_url_is_refused() {
        for bad in ["https://a/#{`id`}", "https://a/\"", "https://a b"] {
            assert!(formula(bad).is_err(), "{bad}");
        }
    }
}
