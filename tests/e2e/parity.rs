//! Parity with the real server and its built-in model, and the spec in docs/.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use sanctum_tests::{Server, program};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/parity-smoke.json");

struct ParityFixture {
    folder: TempDir,
    server: Server,
}

impl ParityFixture {
    async fn start() -> Self {
        let server = Server::start(["--threads", "1"]).await;
        let ready = server.logged("ready").await;
        let address = ready["address"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        let folder = TempDir::new().unwrap();
        let fleet = format!(
            "[hosts.here]\naddress = \"127.0.0.1\"\nagents = [\"server\", \"parity\"]\n\
             [servers.server]\nhost = \"here\"\nlisten = [\"{address}\"]\n\
             [watch.parity]\ntarget = \"server\"\nat = \"0 3 * * *\"\nspec = \"parity-smoke.json\"\nmax_failures = 1\n"
        );
        fs::write(folder.path().join("fleet.toml"), fleet).unwrap();
        fs::copy(SPEC, folder.path().join("parity-smoke.json")).unwrap();
        Self { folder, server }
    }

    /// Runs `sanctum-parity`; returns its exit code and its output.
    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(program("sanctum-parity"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn built_in_model_gives_the_recorded_answers() {
    let parity = ParityFixture::start().await;
    let (code, output) = parity.run(&["--once", "--json"]).await;
    assert_eq!(code, 0, "{output}");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["message"], "10 of 10 answers are as expected");
    assert!(!parity.path(".sanctum").exists(), "--once changes nothing");

    // Recorded, and the same again byte for byte.
    let (code, output) = parity.run(&["--exact"]).await;
    assert!(
        code == 2 && output.contains("there are no recorded answers"),
        "{output}"
    );
    let (code, output) = parity.run(&["--record"]).await;
    assert!(code == 1 && output.contains("add --yes"), "{output}");
    let (code, output) = parity.run(&["--record", "--yes"]).await;
    assert!(
        code == 0 && output.contains("recorded 10 answers"),
        "{output}"
    );
    let (code, output) = parity.run(&["--exact"]).await;
    assert!(
        code == 0 && output.contains("10 of 10 answers are as recorded"),
        "{output}"
    );
    let recorded = parity.path(".sanctum/state/parity/parity/recorded.json");
    edit(&recorded, "Tokyo", "Tokio");
    let (code, output) = parity.run(&["--exact"]).await;
    assert!(code == 1 && output.contains("FAIL  `capital`"), "{output}");

    // The spec expects other answers: one is tolerated, two alert.
    let spec = parity.path("parity-smoke.json");
    edit(&spec, "Kenya", "Uganda");
    let (code, output) = parity.run(&["--once"]).await;
    assert!(code == 0 && output.contains("FAIL  `country`"), "{output}");
    edit(&spec, "Sunday", "Friday");
    let (code, output) = parity.run(&["--once"]).await;
    assert!(
        code == 1 && output.contains("8 of 10 answers are as expected"),
        "{output}"
    );
    edit(
        &spec,
        "\"substring\": \"Friday\"",
        "\"substrng\": \"Friday\"",
    );
    let (code, output) = parity.run(&["--once"]).await;
    assert!(
        code == 2 && output.contains("unknown field `substrng`"),
        "{output}"
    );
    drop(parity.server);
}
