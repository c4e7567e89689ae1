//! Modules that import from each other.

use std::collections::BTreeSet;
use std::path::Path;

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use super::imports::{self, Edges};
use super::tree::{ModuleId, Tree};

/// One text for each cycle: the number of its modules, and a line for each import that is part of it.
///
/// Finds cycles between modules and cycles between folders. A folder is a module with everything below it: `a::x → b::y`
/// and `b::z → a::w` are a cycle between the folders `a` and `b`, although no two files import each other.
pub(super) fn in_tree(tree: &Tree, workspace: &Path) -> Vec<String> {
    let edges = imports::edges(tree);
    let mut cycles = cycles_of(&edges, Some);
    let reported: BTreeSet<ModuleId> = cycles.iter().flatten().copied().collect();
    for parent in 0..tree.modules.len() {
        let folders = self::cycles_of(&edges, |module| child_above(tree, parent, module));
        // Cycles between files are reported already.
        cycles.extend(
            folders
                .into_iter()
                .filter(|cycle| cycle.is_disjoint(&reported)),
        );
    }
    let shown = |cycle: &BTreeSet<ModuleId>| {
        let mut text = format!("{} modules import from each other:", cycle.len());
        for ((from, to), line) in &edges {
            if cycle.contains(from) && cycle.contains(to) {
                let (from, to) = (&tree.modules[*from], &tree.modules[*to]);
                let file = from.file.strip_prefix(workspace).unwrap_or(&from.file);
                let file = file.display();
                text.push_str(&format!(
                    "\n  {} → {}  ({file}:{line})",
                    from.name(),
                    to.name()
                ));
            }
        }
        text
    };
    cycles.iter().map(shown).collect()
}

/// The modules of each cycle, where modules with the same `place` count as one and those without do not count.
fn cycles_of(
    edges: &Edges,
    place: impl Fn(ModuleId) -> Option<ModuleId>,
) -> Vec<BTreeSet<ModuleId>> {
    let mut graph = DiGraphMap::<ModuleId, ()>::new();
    let placed = |(from, to): (ModuleId, ModuleId)| Some((place(from)?, place(to)?));
    for (from, to) in edges.keys().copied().filter_map(placed) {
        if from != to {
            graph.add_edge(from, to, ());
        }
    }
    tarjan_scc(&graph)
        .into_iter()
        .filter(|cycle| cycle.len() > 1)
        .map(|cycle| {
            let inside = |id| place(id).is_some_and(|place| cycle.contains(&place));
            let edges = edges
                .keys()
                .copied()
                .filter(|(from, to)| inside(*from) && inside(*to) && place(*from) != place(*to));
            edges.flat_map(|(from, to)| [from, to]).collect()
        })
        .collect()
}

/// The child of `parent` that is `module` or contains it; none for `parent` itself and modules outside of it.
fn child_above(tree: &Tree, parent: ModuleId, mut module: ModuleId) -> Option<ModuleId> {
    loop {
        match tree.modules[module].parent {
            Some(above) if above == parent => return Some(module),
            Some(above) => module = above,
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let tree = Tree::read(&folder.path().join("lib.rs")).unwrap();
        in_tree(&tree, folder.path())
    }

    #[test]
    fn cycle_between_two_modules_is_reported_with_both_lines() {
        let found = found(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B;\npub struct A(B);"),
            (
                "b.rs",
                "\npub struct B; impl B { fn f() { let _ = crate::a::A; } }",
            ),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("crate::a → crate::b  (a.rs:1)"),
            "{found:?}"
        );
        assert!(
            found[0].contains("crate::b → crate::a  (b.rs:2)"),
            "{found:?}"
        );
    }

    #[test]
    fn cycle_through_reexports_macros_and_parents_is_reported() {
        // Through the root's `pub use`.
        let through = [
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::*;"),
            ("a.rs", "pub struct A(crate::B);"),
            ("b.rs", "use super::A; pub struct B; fn f(_: A) {}"),
        ];
        assert_eq!(found(&through).len(), 1);
        // In a macro's tokens.
        let tokens = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub fn f() { println!(\"{}\", crate::b::g()); }"),
            ("b.rs", "use crate::a; pub fn g() { a::f() }"),
        ];
        assert_eq!(found(&tokens).len(), 1);
        // A parent that uses its child, which uses its parent.
        let parent = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod c; pub struct A(c::C); pub struct D;"),
            ("a/c.rs", "use super::D; pub struct C(D);"),
        ];
        assert_eq!(found(&parent).len(), 1);
    }

    #[test]
    fn cycle_between_folders_is_reported() {
        let found = found(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "pub mod x; pub mod y;"),
            ("a/x.rs", "use crate::b::x::B; pub struct A(B);"),
            ("a/y.rs", "pub struct Y;"),
            ("b.rs", "pub mod x; mod y;"),
            ("b/x.rs", "pub struct B;"),
            ("b/y.rs", "use crate::a::y::Y; pub struct Z(Y);"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("crate::a::x → crate::b::x"), "{found:?}");
        assert!(found[0].contains("crate::b::y → crate::a::y"), "{found:?}");
    }

    #[test]
    fn facade_tests_and_other_crates_are_no_cycle() {
        let found = found(&[
            ("lib.rs", "mod a; mod b; pub use a::A; use std::fmt;"),
            (
                "a.rs",
                "pub struct A;\n#[cfg(test)] mod tests { use super::*; use crate::b::B; }",
            ),
            (
                "b.rs",
                "use crate::A; pub struct B(A); mod serde { pub struct S; } use serde::S;",
            ),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
