//! Type names with several definitions.
//!
//! A type name means one thing in the workspace, in tests too, so that a search for it finds the one definition. The
//! page lists the exceptions: conventional names, and types that are the same for different platforms or programs.
//! Associated types do not count: the trait gives them their meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Ident, ItemEnum, ItemStruct, ItemTrait, ItemType, ItemUnion};

use super::error::HouseError;
use super::package::Package;
use super::page::ArchitecturePage;
use super::tree;

/// The block of lines `Name, Name: reason`.
const BLOCK: &str = "type-names";

/// The places that define each name, as `file:line`.
type Definitions = BTreeMap<String, Vec<String>>;

/// One text for each name with several definitions that the page does not list, and for each listed one without.
///
/// # Errors
/// If a file cannot be read or parsed, or the page's list is missing or invalid.
pub(super) fn violations(
    packages: &[Package],
    page: &ArchitecturePage,
    workspace: &Path,
) -> Result<Vec<String>, HouseError> {
    let mut definitions = Definitions::new();
    for package in packages {
        let mut files = Vec::new();
        source_files(package.folder(), &mut files)?;
        files.sort();
        for file in files {
            let shown = file.strip_prefix(workspace).unwrap_or(&file);
            collect(&tree::parse(&file)?, shown, &mut definitions);
        }
    }
    Ok(compared(&definitions, &listed(page)?, page))
}

fn compared(
    definitions: &Definitions,
    listed: &BTreeSet<String>,
    page: &ArchitecturePage,
) -> Vec<String> {
    let page = page.file().display();
    let is_repeated = |name: &&String| {
        definitions
            .get(*name)
            .is_some_and(|places| places.len() > 1)
    };
    let unlisted = definitions
        .iter()
        .filter(|(name, places)| places.len() > 1 && !listed.contains(*name))
        .map(|(name, places)| {
            format!(
                "{} types have the name {name}: rename all but one, or list the name with a reason under ```{BLOCK} in {page}\n  {}",
                places.len(),
                places.join("\n  ")
            )
        });
    let obsolete = listed.iter().filter(|name| !is_repeated(name)).map(|name| {
        format!(
            "{page} lists {name} under ```{BLOCK}, but no two types have that name: remove it there"
        )
    });
    unlisted.chain(obsolete).collect()
}

/// The names that may have several definitions.
fn listed(page: &ArchitecturePage) -> Result<BTreeSet<String>, HouseError> {
    let mut listed = BTreeSet::new();
    for line in page.block(BLOCK)? {
        let names = line
            .split_once(':')
            .filter(|(_, reason)| !reason.trim().is_empty());
        let Some((names, _)) = names else {
            let problem = format!("`{line}` is not of the form `Name, Name: reason`");
            return Err(page.error(problem));
        };
        listed.extend(names.split(',').map(|name| name.trim().to_owned()));
    }
    Ok(listed)
}

/// Adds every Rust file below the folder of a package, except those of packages within it.
fn source_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), HouseError> {
    let failed = |source| HouseError::Read {
        file: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_other = || {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name == "target" || name.starts_with('.') || path.join("Cargo.toml").is_file()
        };
        if path.is_dir() {
            if !is_other() {
                source_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn collect(file: &syn::File, shown: &Path, definitions: &mut Definitions) {
    Collector { shown, definitions }.visit_file(file);
}

/// Collects the types that a file defines, also within functions.
struct Collector<'a> {
    shown: &'a Path,
    definitions: &'a mut Definitions,
}

impl Collector<'_> {
    fn add(&mut self, name: &Ident) {
        let place = format!("{}:{}", self.shown.display(), name.span().start().line);
        self.definitions
            .entry(name.to_string())
            .or_default()
            .push(place);
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.add(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.add(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast ItemUnion) {
        self.add(&item.ident);
        visit::visit_item_union(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.add(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.add(&item.ident);
        visit::visit_item_type(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], list: &str) -> Vec<String> {
        let mut definitions = Definitions::new();
        for (name, text) in files {
            collect(
                &syn::parse_file(text).unwrap(),
                Path::new(name),
                &mut definitions,
            );
        }
        let page = ArchitecturePage::of(&format!("```type-names\n{list}```\n"));
        compared(&definitions, &listed(&page).unwrap(), &page)
    }

    #[test]
    fn name_with_two_definitions_is_reported_with_both_places() {
        let files = [
            (
                "a.rs",
                "pub struct Plan;\n#[cfg(test)] mod tests { enum Step {} }",
            ),
            ("b.rs", "fn f() {\n  type Plan = u8;\n}\n\n\ntrait Step {}"),
        ];
        let reported = found(&files, "");
        assert_eq!(reported.len(), 2, "{reported:?}");
        assert!(
            reported[0].starts_with("2 types have the name Plan")
                && reported[0].ends_with("page.md\n  a.rs:1\n  b.rs:2"),
            "{reported:?}"
        );
        assert!(
            reported[1].ends_with("\n  a.rs:2\n  b.rs:6"),
            "{reported:?}"
        );
        let reported = found(&files, "Plan, Step: examples\n");
        assert_eq!(reported, Vec::<String>::new());
    }

    #[test]
    fn associated_types_and_variants_do_not_count() {
        let files = [
            (
                "a.rs",
                "trait Device { type Tensor; }\nenum Kind { Tensor }",
            ),
            (
                "b.rs",
                "struct Cpu; impl Device for Cpu { type Tensor = u8; }",
            ),
            ("c.rs", "struct Tensor;"),
        ];
        assert_eq!(found(&files, ""), Vec::<String>::new());
    }

    #[test]
    fn listed_name_with_one_definition_is_reported() {
        let reported = found(
            &[("a.rs", "struct Args;")],
            "Args: each program has its own\n",
        );
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!(reported[0].contains("lists Args"), "{reported:?}");
    }

    #[test]
    fn list_without_reason_is_refused() {
        for line in ["Args", "Args:", "Args: "] {
            let page = ArchitecturePage::of(&format!("```type-names\n{line}\n```\n"));
            let error = listed(&page).unwrap_err().to_string();
            assert!(error.contains(&format!("`{line}`")), "{error}");
        }
        assert!(listed(&ArchitecturePage::of("# Page\n")).is_err());
    }
}
