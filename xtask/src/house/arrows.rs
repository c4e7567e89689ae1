//! Which crate may depend on which, as docs/architecture.md draws it.

use std::collections::{BTreeMap, BTreeSet};

use super::error::HouseError;
use super::package::Package;
use super::page::ArchitecturePage;

/// The block that draws the arrows.
const BLOCK: &str = "arrows";

/// The arrows: a crate and the crates that it may depend on.
#[derive(Debug)]
pub(super) struct Arrows<'a> {
    page: &'a ArchitecturePage,
    drawn: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Arrows<'a> {
    /// Reads the page's block of lines `name → name, name`.
    ///
    /// # Errors
    /// If the page has no such block, or a line has another form.
    pub(super) fn of(page: &'a ArchitecturePage) -> Result<Self, HouseError> {
        let mut drawn: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in page.block(BLOCK)? {
            let (from, to) = line.split_once('→').ok_or_else(|| {
                page.error(format!("`{line}` is not of the form `name → name, name`"))
            })?;
            let to = to.split(',').map(|name| name.trim().to_owned());
            for from in from.split(',') {
                drawn
                    .entry(from.trim().to_owned())
                    .or_default()
                    .extend(to.clone());
            }
        }
        Ok(Self { page, drawn })
    }

    /// One text for each dependency that is not drawn. Dev-dependencies are exempt.
    pub(super) fn violations(&self, packages: &[Package]) -> Vec<String> {
        let none = BTreeSet::new();
        let mut found = Vec::new();
        for package in packages {
            let from = short(&package.name);
            let allowed = self.drawn.get(from).unwrap_or(&none);
            for dependency in &package.dependencies {
                let to = short(&dependency.name);
                let is_ours =
                    dependency.path.is_some() && dependency.kind.as_deref() != Some("dev");
                if is_ours && !allowed.contains(to) {
                    found.push(format!(
                        "{from} depends on {to}, and {} draws no such arrow: move the code, or draw it there",
                        self.page.file().display()
                    ));
                }
            }
        }
        found
    }
}

fn short(name: &str) -> &str {
    name.strip_prefix("sanctum-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Page\n\n```arrows\nserver → engine, config\npki, drift → config\n```\n";

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|(name, kind)| serde_json::json!({"name": name, "kind": kind, "path": "/x"}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "name": name, "manifest_path": "/x/Cargo.toml", "targets": [], "dependencies": dependencies
        }))
        .unwrap()
    }

    #[test]
    fn dependency_that_is_not_drawn_is_reported() {
        let page = ArchitecturePage::of(PAGE);
        let arrows = Arrows::of(&page).unwrap();
        let packages = [
            package(
                "sanctum-server",
                &[("sanctum-engine", None), ("sanctum-config", None)],
            ),
            package(
                "sanctum-pki",
                &[("sanctum-engine", None), ("sanctum-watch", Some("dev"))],
            ),
            package("sanctum-drift", &[("sanctum-launchd", Some("build"))]),
        ];
        let found = arrows.violations(&packages);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("pki depends on engine"), "{found:?}");
        assert!(
            found[1].starts_with("drift depends on launchd"),
            "{found:?}"
        );
    }

    #[test]
    fn page_without_arrows_or_with_another_line_is_refused() {
        for (text, problem) in [
            ("# Page\n", "no block"),
            ("```arrows\nserver -> engine\n```", "`server -> engine`"),
        ] {
            let error = Arrows::of(&ArchitecturePage::of(text))
                .unwrap_err()
                .to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
