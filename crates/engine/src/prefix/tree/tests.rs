//! The tree against a list of its entries.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// The specification: a list.
#[derive(Default)]
struct NaiveTree(Vec<(Scope, Vec<u32>, u32)>);

impl NaiveTree {
    fn of(&self, scope: Scope) -> impl Iterator<Item = &(Scope, Vec<u32>, u32)> {
        self.0.iter().filter(move |entry| entry.0 == scope)
    }

    fn known(&self, scope: Scope, tokens: &[u32]) -> usize {
        let lengths = self.of(scope).map(|entry| common_prefix(&entry.1, tokens));
        lengths.max().unwrap_or(0)
    }

    fn hit(&self, scope: Scope, tokens: &[u32], limit: usize) -> Option<(u32, usize)> {
        let begins = |entry: &&(Scope, Vec<u32>, u32)| {
            entry.1.len() <= limit && tokens.starts_with(&entry.1)
        };
        let longest = self
            .of(scope)
            .filter(begins)
            .max_by_key(|entry| entry.1.len());
        longest.map(|entry| (entry.2, entry.1.len()))
    }

    /// Different sequences that entries begin with: the edges of a tree with a token each.
    fn tokens(&self) -> usize {
        let prefixes = self.0.iter().flat_map(|(scope, tokens, _)| {
            (1..=tokens.len()).map(move |len| (*scope, &tokens[..len]))
        });
        prefixes.collect::<std::collections::HashSet<_>>().len()
    }
}

fn check_structure<E>(tree: &PrefixTree<E>) {
    let mut reached = 0;
    for node in tree.nodes.values() {
        let single = node.entry.is_none() && node.parent.is_some();
        assert!(!single || node.children.len() >= 2, "a node too many");
        assert!(node.entry.is_some() || !node.children.is_empty());
        assert_eq!(node.edge.is_empty(), node.parent.is_none());
        for (first, child) in &node.children {
            let child = &tree.nodes[child];
            assert_eq!(child.edge[0], *first);
            assert_eq!(child.len, node.len + child.edge.len());
            reached += 1;
        }
    }
    assert_eq!(reached + tree.roots.len(), tree.nodes.len());
}

fn scope(number: u8) -> Scope {
    Scope::from_bytes([number; 16])
}

proptest! {
    #[test]
    fn tree_equals_a_list_of_its_entries(
        steps in vec((0..2_u8, vec(0..3_u32, 0..9), 0..4_u8, 0..9_usize), 1..60),
    ) {
        let (mut tree, mut list) = (PrefixTree::new(), NaiveTree::default());
        for (value, (number, tokens, what, limit)) in steps.into_iter().enumerate() {
            let (scope, value) = (scope(number), value as u32);
            let at = list.0.iter().position(|e| e.0 == scope && e.1 == tokens);
            if what == 0 {
                let id = tree.get(scope, &tokens);
                prop_assert_eq!(id.is_some(), at.is_some());
                let removed = id.and_then(|id| tree.remove(id));
                prop_assert_eq!(removed, at.map(|at| list.0.swap_remove(at).2));
            } else {
                let (id, before) = tree.insert(scope, &tokens, value);
                prop_assert_eq!(before, at.map(|at| list.0.swap_remove(at).2));
                list.0.push((scope, tokens.clone(), value));
                prop_assert_eq!(tree.path(id), (scope, tokens.clone()));
                let shorter = list.hit(scope, &tokens, tokens.len().wrapping_sub(1));
                let shorter = if tokens.is_empty() { None } else { shorter };
                prop_assert_eq!(
                    tree.parent(id).and_then(|id| tree.entry(id).copied()),
                    shorter.map(|hit| hit.0)
                );
                prop_assert_eq!(tree.span(id), (tokens.len(), shorter.map_or(0, |hit| hit.1)));
                let begun = list.0.iter().any(|e| {
                    e.0 == scope && e.1.len() > tokens.len() && e.1.starts_with(&tokens)
                });
                prop_assert_eq!(tree.is_begun(id), begun);
            }
            check_structure(&tree);
            prop_assert_eq!((tree.len(), tree.tokens()), (list.0.len(), list.tokens()));
            prop_assert_eq!(tree.entries().count(), tree.len());
            let found = tree.find(scope, &tokens, limit);
            let hit = found.hit.map(|(id, len)| (*tree.entry(id).unwrap(), len));
            prop_assert_eq!(hit, list.hit(scope, &tokens, limit));
            prop_assert_eq!(found.known, list.known(scope, &tokens));
        }
        prop_assert_eq!(tree.clear().len(), list.0.len());
        prop_assert_eq!((tree.len(), tree.tokens(), tree.nodes.len()), (0, 0, 0));
    }
}

#[test]
fn removed_entries_leave_no_node_that_leads_to_none() {
    let mut tree = PrefixTree::new();
    let kept: &[u32] = &[1, 9];
    // Paths part behind 1, behind 1 2 and behind 1 2 3, where no entry is.
    for tokens in [kept, &[1, 2, 3, 4], &[1, 2, 3, 5, 6], &[1, 2, 7]] {
        tree.insert(scope(1), tokens, ());
    }
    for id in tree.beginning_with(scope(1), &[1, 2]) {
        tree.remove(id).unwrap();
        check_structure(&tree);
    }
    assert_eq!((tree.len(), tree.tokens(), tree.nodes.len()), (1, 2, 2));
    let last = tree.get(scope(1), kept).unwrap();
    tree.remove(last).unwrap();
    assert_eq!((tree.nodes.len(), tree.roots.len()), (0, 0));
}

#[test]
fn entry_of_another_scope_is_not_found() {
    let mut tree = PrefixTree::new();
    tree.insert(scope(1), &[1, 2, 3], ());
    assert_eq!(tree.find(scope(2), &[1, 2, 3], 3), PrefixMatch::default());
    assert_eq!(tree.find(scope(1), &[1, 2, 3], 2).known, 3);
}
