//! Parity against the real server and the model that is built in, with the spec that comes with Sanctum.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use sanctum_tests::{Server, program};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/parity-smoke.json");

struct Parity {
    folder: TempDir,
    server: Server,
}

impl Parity {
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

    /// Runs `sanctum-parity`: its exit code, and what it said.
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
async fn the_built_in_model_says_what_it_said() {
    let parity = Parity::start().await;
    let (code, said) = parity.run(&["--once", "--json"]).await;
    assert_eq!(code, 0, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["message"], "10 of 10 answers are as expected");
    assert!(!parity.path(".sanctum").exists(), "--once changes nothing");

    // Recorded, and the same again, byte for byte.
    let (code, said) = parity.run(&["--exact"]).await;
    assert!(
        code == 2 && said.contains("nothing has been recorded yet"),
        "{said}"
    );
    let (code, said) = parity.run(&["--record"]).await;
    assert!(code == 1 && said.contains("add --yes"), "{said}");
    let (code, said) = parity.run(&["--record", "--yes"]).await;
    assert!(code == 0 && said.contains("recorded 10 answers"), "{said}");
    let (code, said) = parity.run(&["--exact"]).await;
    assert!(
        code == 0 && said.contains("10 of 10 answers are as recorded"),
        "{said}"
    );
    let recorded = parity.path(".sanctum/state/parity/parity/recorded.json");
    edit(&recorded, "Tokyo", "Tokio");
    let (code, said) = parity.run(&["--exact"]).await;
    assert!(code == 1 && said.contains("WRONG `capital`"), "{said}");

    // The spec expects something else: one is tolerated, two are told of.
    let spec = parity.path("parity-smoke.json");
    edit(&spec, "Kenya", "Uganda");
    let (code, said) = parity.run(&["--once"]).await;
    assert!(code == 0 && said.contains("WRONG `country`"), "{said}");
    edit(&spec, "Sunday", "Friday");
    let (code, said) = parity.run(&["--once"]).await;
    assert!(
        code == 1 && said.contains("8 of 10 answers are as expected"),
        "{said}"
    );
    edit(
        &spec,
        "\"substring\": \"Friday\"",
        "\"substrng\": \"Friday\"",
    );
    let (code, said) = parity.run(&["--once"]).await;
    assert!(
        code == 2 && said.contains("unknown field `substrng`"),
        "{said}"
    );
    drop(parity.server);
}
