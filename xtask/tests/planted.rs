//! `cargo xtask house` and `cargo xtask words` fail on what they are there to find, in a small workspace of their own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Two crates without a fault: `app` depends on `base`, as the page draws it.
const WORKSPACE: [(&str, &str); 7] = [
    (
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"app\", \"base\"]\n",
    ),
    (
        "docs/architecture.md",
        "# Page\n\n```arrows\napp → base\n```\n\n```type-names\n```\n",
    ),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nedition = \"2024\"\n[dependencies]\nbase = { path = \"../base\" }\n",
    ),
    ("app/src/lib.rs", "mod load;\nmod plan;\n"),
    ("app/src/load.rs", "pub(crate) struct Load;\n"),
    (
        "app/src/plan.rs",
        "use crate::load::Load;\npub(crate) struct Plan(Load);\n",
    ),
    (
        "base/Cargo.toml",
        "[package]\nname = \"base\"\nedition = \"2024\"\n",
    ),
];

fn workspace() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (file, text) in WORKSPACE {
        write(folder.path(), file, text);
    }
    write(folder.path(), "base/src/lib.rs", "");
    folder
}

fn write(folder: &Path, file: &str, text: &str) {
    let file = folder.join(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

fn xtask(chore: &str, workspace: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args([chore, "--workspace"])
        .arg(workspace)
        .output()
        .unwrap()
}

#[track_caller]
fn assert_passes(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[track_caller]
fn assert_fails_with(output: &Output, problem: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains(problem), "{errors}");
}

#[test]
fn house_fails_on_planted_cycle() {
    let folder = workspace();
    assert_passes(&xtask("house", folder.path()));
    let load = "pub(crate) struct Load;\nfn f(_: crate::plan::Plan) {}\n";
    write(folder.path(), "app/src/load.rs", load);
    let output = xtask("house", folder.path());
    assert_fails_with(&output, "crate::load → crate::plan  (app/src/load.rs:2)");
}

#[test]
fn house_fails_on_planted_arrow() {
    let folder = workspace();
    let base = "[package]\nname = \"base\"\nedition = \"2024\"\n[dependencies]\nextra = { path = \"../extra\" }\n";
    write(folder.path(), "base/Cargo.toml", base);
    let extra = "[package]\nname = \"extra\"\nedition = \"2024\"\n";
    write(folder.path(), "extra/Cargo.toml", extra);
    write(folder.path(), "extra/src/lib.rs", "");
    assert_fails_with(&xtask("house", folder.path()), "base depends on extra");
}

#[test]
fn house_fails_on_planted_mod_file() {
    let folder = workspace();
    let load = folder.path().join("app/src/load");
    fs::create_dir(&load).unwrap();
    fs::rename(load.with_extension("rs"), load.join("mod.rs")).unwrap();
    let output = xtask("house", folder.path());
    assert_fails_with(&output, "app/src/load.rs does not exist");
}

#[test]
fn house_fails_on_planted_type_name() {
    let folder = workspace();
    let test = "#[cfg(test)]\nmod tests {\n    struct Load;\n}\n";
    write(folder.path(), "base/src/lib.rs", test);
    let output = xtask("house", folder.path());
    assert_fails_with(&output, "2 types have the name Load");
    assert_fails_with(&output, "  app/src/load.rs:1\n  base/src/lib.rs:3");
    let page = "```arrows\napp → base\n```\n\n```type-names\nLoad: an example\n```\n";
    write(folder.path(), "docs/architecture.md", page);
    assert_passes(&xtask("house", folder.path()));
}

#[test]
fn words_fails_on_planted_word_in_code_comment_or_page() {
    let folder = TempDir::new().unwrap();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        let done = git.current_dir(folder.path()).args(arguments).output();
        assert_passes(&done.unwrap());
    };
    git(&["init", "-q"]);
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/words.toml");
    write(
        folder.path(),
        "xtask/words.toml",
        &fs::read_to_string(list).unwrap(),
    );
    write(folder.path(), "a.rs", "// Reports the error.\n");
    write(folder.path(), "a.md", "The server restarts.\n");
    git(&["add", "."]);
    assert_passes(&xtask("words", folder.path()));
    for (file, text) in [
        ("a.rs", "\nfn report_is_mended() {}\n"),
        ("a.rs", "\n// The file is mended.\n"),
        ("a.md", "\nThe file is mended.\n"),
    ] {
        let before = fs::read_to_string(folder.path().join(file)).unwrap();
        write(folder.path(), file, text);
        let output = xtask("words", folder.path());
        assert_fails_with(&output, &format!("{file}:2: `mended`: write fix"));
        write(folder.path(), file, &before);
    }
}
