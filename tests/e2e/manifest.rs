//! Models with a manifest: served when the folder matches it; otherwise no socket is opened.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use sanctum_manifest::{SigningKey, create, signature_path};
use sanctum_tests::{Ended, Fleet, Process, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::adapters::nonsense;
use crate::openai::SUM;

/// A home with a model, its manifest, the signature and the key.
struct SignedModel {
    home: TempDir,
    key: SigningKey,
}

impl SignedModel {
    async fn new() -> Self {
        let home = Self {
            home: TempDir::new().unwrap(),
            key: SigningKey::generate().unwrap(),
        };
        let export = ["export-model".into(), home.path("model").into_os_string()];
        assert_eq!(Process::launch(export).ended().await.code, Some(0));
        let manifest = create(&home.path("model"), &[], |_, _| ()).unwrap();
        fs::write(home.path("model.sha256"), manifest.to_string()).unwrap();
        fs::write(home.path("key.pub"), home.key.public().to_file()).unwrap();
        home.sign(&home.key);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn sign(&self, key: &SigningKey) {
        let path = self.path("model.sha256");
        let signature = key.sign(&fs::read(&path).unwrap());
        fs::write(signature_path(&path), signature.0).unwrap();
    }

    /// The flags with which the folder is verified.
    fn flags(&self) -> Vec<String> {
        let show = |name: &str| self.path(name).display().to_string();
        let (model, manifest, key) = (show("model"), show("model.sha256"), show("key.pub"));
        [
            "--model",
            &model,
            "--manifest",
            &manifest,
            "--manifest-key",
            &key,
        ]
        .map(str::to_owned)
        .into()
    }

    /// A fleet.toml beside the model, with relative paths.
    fn fleet(&self) -> PathBuf {
        let text = "[hosts.here]\naddress = \"127.0.0.1\"\n[servers.server]\nhost = \"here\"\n\
                    listen = [\"127.0.0.1:0\"]\nmanifest_keys = [\"key.pub\"]\n\
                    models = [{ id = \"council\", path = \"model\", manifest = \"model.sha256\" }]\n";
        let path = self.path("fleet.toml");
        fs::write(&path, text).unwrap();
        path
    }

    async fn check(&self) -> Ended {
        let args = [
            "check-model".into(),
            "--config".into(),
            self.fleet().into_os_string(),
        ];
        Process::launch::<std::ffi::OsString>(args).ended().await
    }
}

/// Position of the log line with this message.
fn position(log: &[String], message: &str) -> Option<usize> {
    let says = |line: &String| {
        let fields: Option<Value> = serde_json::from_str(line).ok();
        fields.is_some_and(|fields| fields["message"] == message)
    };
    log.iter().position(says)
}

#[tokio::test]
async fn matching_folder_is_served_after_verification() {
    let home = SignedModel::new().await;
    let config = ["--config".into(), home.fleet().into_os_string()];
    let server = Server::ready(Process::launch(config)).await;
    let body = json!({ "model": "council", "messages": [{ "role": "user", "content": SUM }], "temperature": 0 });
    let answer = server
        .http()
        .post("/v1/chat/completions", &body)
        .await
        .json();
    assert_eq!(answer["choices"][0]["message"]["content"], "4");

    let verdict = server.logged("verified").await;
    assert_eq!(verdict["files"], 6);
    assert_eq!(verdict["signed_by"], home.key.public().to_string());
    let log = server.log();
    assert!(
        position(&log, "verified") < position(&log, "ready"),
        "{log:#?}"
    );

    let checked = home.check().await;
    assert_eq!((checked.code, checked.stdout.lines().count()), (Some(0), 1));
    assert!(checked.stdout.contains("6 files"), "{}", checked.stdout);
}

#[tokio::test]
async fn mismatching_folder_is_refused_before_a_socket_is_opened() {
    // A port that is taken: a server that binds before its verdict would complain of that instead.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let home = SignedModel::new().await;
    let refused = async |says: &[&str]| {
        let args = [home.flags(), vec!["--port".to_owned(), port.clone()]].concat();
        for ended in [Process::launch(args).ended().await, home.check().await] {
            let words = ended.last_message();
            assert_eq!(ended.code, Some(1), "{words}");
            assert!(
                says.iter().all(|word| words.contains(word)),
                "{says:?} in: {words}"
            );
            assert_eq!(position(&ended.log, "ready"), None);
            assert!(ended.stdout.is_empty());
        }
    };

    let weights = home.path("model").join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    refused(&["model.safetensors", "expected", "found", "copy it again"]).await;
    fs::write(&weights, &whole[..100]).unwrap();
    refused(&["model.safetensors", "over 100 bytes"]).await;
    fs::remove_file(&weights).unwrap();
    refused(&["model.safetensors", "missing"]).await;
    fs::write(&weights, &whole).unwrap();

    let extra = home.path("model").join("extra.safetensors");
    fs::write(&extra, "").unwrap();
    refused(&["extra.safetensors", "not listed"]).await;
    fs::remove_file(&extra).unwrap();

    home.sign(&SigningKey::generate().unwrap());
    refused(&["model.sha256.sig", "trusted key"]).await;
    fs::remove_file(home.path("model.sha256.sig")).unwrap();
    refused(&["not signed", "sanctum-pki manifest sign"]).await;

    // The folder is intact again, so the occupied port is the error.
    home.sign(&home.key);
    let args = [home.flags(), vec!["--port".to_owned(), port.clone()]].concat();
    let words = Process::launch(args).ended().await.last_message();
    assert!(words.contains("cannot listen"), "{words}");
    assert_eq!(home.check().await.code, Some(0));
}

#[tokio::test]
async fn unverified_signature_is_a_warning() {
    let home = SignedModel::new().await;
    let model = home.path("model").display().to_string();
    let manifest = home.path("model.sha256").display().to_string();
    let ended = Process::launch(["check-model", &model, "--manifest", &manifest])
        .ended()
        .await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert!(
        ended.log.join("\n").contains("no key is trusted"),
        "{:#?}",
        ended.log
    );
    let ended = Process::launch(["check-model", &model]).ended().await;
    // A folder is described, the models of a fleet are only checked.
    for part in [
        "no manifest was checked",
        "dense Qwen3.5: ",
        "4 bits in groups of 64",
        "\ndecode: about ",
    ] {
        assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
    }
    fs::write(home.path("model").join("config.json"), "{").unwrap();
    let ended = Process::launch(["check-model", &model]).ended().await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.last_message().contains("config.json"),
        "{}",
        ended.last_message()
    );
}

#[tokio::test]
async fn model_without_a_manifest_beside_one_with_one_is_a_warning() {
    let home = SignedModel::new().await;
    let fleet = home.fleet();
    let both = "models = [{ id = \"other\", path = \"model\" }, ";
    let text = fs::read_to_string(&fleet)
        .unwrap()
        .replace("models = [", both);
    fs::write(&fleet, text).unwrap();
    let args = [
        "check-model".into(),
        "--config".into(),
        fleet.into_os_string(),
    ];
    let ended = Process::launch::<std::ffi::OsString>(args).ended().await;
    assert_eq!(ended.code, Some(0), "{:#?}", ended.log);
    assert!(!ended.stdout.contains("decode:"), "{}", ended.stdout);
    let told = |line: &&String| line.contains("this model has no manifest");
    let told: Vec<&String> = ended.log.iter().filter(told).collect();
    assert!(
        matches!(told[..], [one] if one.contains("other")),
        "{told:?}"
    );
}

#[tokio::test]
async fn only_manifests_signed_by_a_trusted_key_are_accepted() {
    let fleet = Fleet::set_up(
        "models = [{ id = \"council\", path = \"model\", manifest = \"model.sha256\" }]\n\
         manifest_keys = [\"home/certs/manifest.pub\"]",
    );
    let export = ["export-model".into(), fleet.path("model").into_os_string()];
    assert_eq!(Process::launch(export).ended().await.code, Some(0));
    for command in [
        "keygen",
        "create model",
        "sign model.sha256",
        "verify model",
    ] {
        fleet.pki(&format!("manifest {command}"));
    }
    let server = fleet.serve().await;
    let key = fs::read_to_string(fleet.path("home/certs/manifest.pub")).unwrap();
    assert_eq!(server.logged("verified").await["signed_by"], key.trim());
    drop(server);

    let refused = async |says: &str| {
        let words = Process::launch(fleet.args()).ended().await.last_message();
        assert!(words.contains(says), "{says} in: {words}");
        let words = fleet.pki_refuses("manifest verify model");
        assert!(words.contains(says), "{says} in: {words}");
    };
    // Other weights with a matching manifest, beside the old signature.
    let template = fleet.path("model/tokenizer_config.json");
    let text = fs::read_to_string(&template).unwrap();
    fs::write(&template, text + "\n").unwrap();
    refused("tokenizer_config.json").await;
    let signature = fleet.path("model.sha256.sig");
    let kept = fs::read(&signature).unwrap();
    fleet.pki("manifest create model");
    fs::write(&signature, kept).unwrap();
    refused("is not the signature").await;
    // The same, signed by an unknown key.
    let stranger = Fleet::set_up("");
    stranger.pki("manifest keygen");
    let manifest = fleet.path("model.sha256");
    stranger.pki(&format!("manifest sign {}", manifest.display()));
    refused("is not the signature").await;
    // Signed with the trusted key.
    fleet.pki("manifest sign model.sha256");
    fleet.pki("manifest verify model");
    drop(fleet.serve().await);
}

/// Otherwise a user who can write adapters could change the answers of a signed model.
#[tokio::test]
async fn signed_model_accepts_only_signed_adapters() {
    let home = SignedModel::new().await;
    let fleet = home.fleet();
    let text = fs::read_to_string(&fleet).unwrap() + "adapters = \"adapters\"\n";
    fs::write(&fleet, text).unwrap();
    let folder = home.path("adapters").join("nonsense");
    fs::create_dir(home.path("adapters")).unwrap();
    nonsense(&folder);
    let (manifest, weights) = (
        home.path("adapters/nonsense.sha256"),
        folder.join("adapters.safetensors"),
    );
    let config = ["--config".into(), fleet.clone().into_os_string()];
    let server = Server::ready(Process::launch(config)).await;
    let post = async |name: Value| {
        let body = json!({ "model": "council", "adapter": name });
        server.http().post("/v1/adapters", &body).await
    };
    let before = server.http().get("/v1/models").await.text;
    let refused = async |why: &str| {
        let answer = post("nonsense".into()).await;
        let (status, code) = (answer.status, answer.json()["error"]["code"].clone());
        assert_eq!(
            (status, code),
            (422, json!("adapter_unusable")),
            "{why}: {}",
            answer.text
        );
        let place = home.path("").display().to_string();
        assert!(!answer.text.contains(&place), "{}", answer.text);
        assert_eq!(server.http().get("/v1/models").await.text, before, "{why}");
        // What the response omits is in the log, for the operator.
        let told = |fields: &Value| {
            let error = fields["error"].as_str()?;
            error.contains(why).then_some(())
        };
        server.logs(why, told).await;
    };
    let signed_by = |key: &SigningKey| {
        let listed = create(&folder, &[], |_, _| ()).unwrap().to_string();
        fs::write(&manifest, &listed).unwrap();
        fs::write(signature_path(&manifest), key.sign(listed.as_bytes()).0).unwrap();
    };

    refused("nonsense.sha256").await;
    let listed = create(&folder, &[], |_, _| ()).unwrap().to_string();
    fs::write(&manifest, listed).unwrap();
    refused("not signed").await;
    signed_by(&SigningKey::generate().unwrap());
    refused("trusted key").await;
    signed_by(&home.key);
    let whole = fs::read(&weights).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, &bytes).unwrap();
    refused("adapters.safetensors").await;
    fs::write(&weights, &whole).unwrap();
    let extra = folder.join("adapter_model.safetensors");
    fs::write(&extra, &whole).unwrap();
    refused("not listed").await;
    fs::remove_file(&extra).unwrap();

    let card = post("nonsense".into()).await;
    assert_eq!(card.status, 200, "{}", card.text);
    assert_eq!(card.json()["adapter"]["name"], "nonsense");
    drop(server);

    // The same at start.
    let text = fs::read_to_string(&fleet).unwrap();
    let merged = "manifest = \"model.sha256\", adapter = \"adapters/nonsense/\"";
    fs::write(&fleet, text.replace("manifest = \"model.sha256\"", merged)).unwrap();
    let start = || {
        let config = ["--config".into(), fleet.clone().into_os_string()];
        Process::launch::<std::ffi::OsString>(config)
    };
    let server = Server::ready(start()).await;
    let models = server.http().get("/v1/models").await.json();
    assert_eq!(models["data"][0]["adapter"]["name"], "nonsense");
    drop(server);
    fs::write(&weights, &bytes).unwrap();
    let ended = start().ended().await;
    assert_eq!(ended.code, Some(1), "{:#?}", ended.log);
    assert!(
        ended.last_message().contains("adapters.safetensors"),
        "{}",
        ended.last_message()
    );
}
