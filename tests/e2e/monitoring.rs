//! docs/monitoring.md: the rules by `promtool`, the metrics that they and the dashboard name, a scrape by a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sanctum_tests::{Fleet, Http, Metrics, Server, within};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::openai::COUNT;

/// A file of docs/.
fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// Whether Prometheus is installed; if not, the test is skipped.
fn has_prometheus() -> bool {
    for program in ["prometheus", "promtool"] {
        if let Err(error) = Command::new(program).arg("--version").output() {
            return sanctum_tests::skipped::<()>(&format!("{program}: {error}")).is_some();
        }
    }
    true
}

fn promtool(folder: &Path, arguments: &[&str]) {
    let output = Command::new("promtool")
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[test]
fn alerting_rules_fire_on_their_examples_only() {
    if !has_prometheus() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/monitoring/alerts.test.yml");
    fs::copy(page("alerts.yml"), folder.path().join("alerts.yml")).unwrap();
    fs::copy(tests, folder.path().join("alerts.test.yml")).unwrap();
    promtool(folder.path(), &["check", "rules", "alerts.yml"]);
    promtool(folder.path(), &["test", "rules", "alerts.test.yml"]);
}

/// The metrics that a text names, without the endings of a histogram's series.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(|c: char| !is_part(c))
        .filter(|word| word.starts_with("sanctum_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned())
        .collect()
}

#[tokio::test]
async fn rules_and_dashboard_name_metrics_that_the_server_has() {
    let server = Server::start([""; 0]).await;
    let question = json!({ "messages": [{ "role": "user", "content": COUNT }], "temperature": 0 });
    let answer = server.http().post("/v1/chat/completions", &question).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let dashboard = fs::read_to_string(page("grafana.json")).unwrap();
    serde_json::from_str::<Value>(&dashboard).expect("grafana.json is JSON");
    let rules = fs::read_to_string(page("alerts.yml")).unwrap();
    let wanted = named(&(dashboard + &rules));
    assert!(wanted.len() > 15, "{wanted:?}");
    let series = |name: &str| name.strip_suffix("_bucket").unwrap_or(name).to_owned();
    // Only a server with MLX, or with upstreams, has those metrics. A generation is counted when its response has been sent.
    let is_missing = |metrics: &Metrics| {
        let has: BTreeSet<String> = metrics.names().map(series).collect();
        let missing = wanted.difference(&has);
        missing
            .filter(|name| {
                !name.starts_with("sanctum_mlx_") && !name.starts_with("sanctum_upstream_")
            })
            .count()
            > 0
    };
    server
        .metrics_show("every metric of docs/", |metrics| !is_missing(metrics))
        .await;
}

/// A Prometheus, killed at the end.
struct Prometheus {
    _process: Child,
    http: Http,
}

impl Prometheus {
    /// Starts it with the configuration in this folder, on a free port, and waits until it says which one.
    async fn start(folder: &Path) -> Self {
        let mut process = tokio::process::Command::new("prometheus")
            .current_dir(folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = within("Prometheus' address", async {
            while let Some(line) = log.next_line().await.unwrap() {
                if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                    return address.to_owned();
                }
            }
            panic!("Prometheus ended before it listened");
        })
        .await;
        // Its log must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self {
            _process: process,
            http: Http::new(&format!("http://{address}")),
        }
    }

    /// The value of an expression with one result.
    async fn value(&self, expression: &str) -> Option<f64> {
        let path = format!("/api/v1/query?query={expression}");
        let answer = self.http.get(&path).await;
        if answer.status != 200 {
            return None;
        }
        let value = answer.json()["data"]["result"][0]["value"][1].clone();
        value.as_str()?.parse().ok()
    }
}

#[tokio::test]
async fn prometheus_scrapes_server_over_mutual_tls() {
    if !has_prometheus() {
        return;
    }
    let fleet = Fleet::set_up("tls_listen = [\"127.0.0.1:0\"]");
    let server = fleet.serve().await;
    let address = server.tls_address().await;
    fleet.pki("client prometheus");
    let (certificate, key) = fleet.pair("clients/prometheus");
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("certs")).unwrap();
    for (from, to) in [
        (fleet.path("home/certs/ca.crt"), "ca.crt"),
        (certificate, "prometheus.crt"),
        (key, "prometheus.key"),
    ] {
        fs::copy(from, folder.path().join("certs").join(to)).unwrap();
    }
    fs::copy(page("alerts.yml"), folder.path().join("alerts.yml")).unwrap();
    let config = fs::read_to_string(page("prometheus.yml"))
        .unwrap()
        .replace("15s", "1s")
        .replace(
            "[\"mini.example:1338\", \"studio.example:1338\"]",
            &format!("[\"{address}\"]"),
        );
    fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    promtool(folder.path(), &["check", "config", "prometheus.yml"]);
    let prometheus = Prometheus::start(folder.path()).await;
    within("a scrape that succeeds", async {
        while prometheus.value("up").await != Some(1.0) {}
    })
    .await;
    let scrapes = "sanctum_client_requests_total{client=\"prometheus\"}";
    within("the scrapes in the metrics", async {
        while prometheus
            .value(scrapes)
            .await
            .is_none_or(|count| count < 1.0)
        {}
    })
    .await;
}
