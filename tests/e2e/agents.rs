//! The traffic of agents, for a few answers.

use serde_json::Value;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn agents_reuse_prefixes_within_their_memory_and_get_the_same_answers() {
    let line = "--answers 12 --agents 3 --verify 0.3 --leave 0.1 --json -- --threads 1 --cache-check 1 \
                --prefix-cache-limit-gb 0.002";
    let output = Command::new(sanctum_tests::program("agents"))
        .args(line.split_whitespace())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}\n{errors}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let value = |name: &str| {
        let mut findings = report.as_array().unwrap().iter();
        let finding = findings.find(|finding| finding["name"] == name);
        finding
            .and_then(|finding| finding["value"].as_f64())
            .unwrap_or_else(|| panic!("{name}: {report}"))
    };
    assert!(value("hit rate") > 20.0, "{report}");
    assert!(
        value("answers compared") > 0.0 && value("evictions") > 0.0,
        "{report}"
    );
    assert!(value("prefixes at most") <= 2.05, "{report}");
}
