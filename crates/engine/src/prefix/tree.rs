//! A radix tree over token ids: which sequences of tokens have an entry, and which of them begin a prompt.
//!
//! A node is a sequence of tokens: those on the edges from its root. Each scope has a root of its own, so that nothing is found
//! across scopes. Nodes exist where entries are and where paths part, and nowhere else: a leaf has an entry, and a node without
//! one has two children at least.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use super::scope::Scope;

/// Identifies a node, for as long as it exists. Numbers are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u64);

/// What a tree knows of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixMatch {
    /// The longest entry that begins the prompt, and its tokens.
    pub(crate) hit: Option<(NodeId, usize)>,
    /// Tokens of the prompt that some path begins with: at least those of the hit.
    pub(crate) known: usize,
}

#[derive(Debug)]
struct Node<E> {
    parent: Option<NodeId>,
    scope: Scope,
    /// The tokens from the parent to here; none in a root.
    edge: Vec<u32>,
    /// Tokens from the root to here.
    len: usize,
    /// By the first token of their edges.
    children: BTreeMap<u32, NodeId>,
    entry: Option<E>,
}

/// Entries of type `E` by their tokens.
#[derive(Debug)]
pub(crate) struct PrefixTree<E> {
    nodes: HashMap<NodeId, Node<E>>,
    roots: HashMap<Scope, NodeId>,
    /// Nodes made so far.
    count: u64,
    entries: usize,
    /// Tokens on all edges.
    tokens: usize,
}

impl<E> PrefixTree<E> {
    pub(crate) fn new() -> Self {
        Self {
            nodes: HashMap::new(),
            roots: HashMap::new(),
            count: 0,
            entries: 0,
            tokens: 0,
        }
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    /// Tokens on all edges.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// What begins `tokens`; the hit has at most `limit` tokens.
    pub(crate) fn find(&self, scope: Scope, tokens: &[u32], limit: usize) -> PrefixMatch {
        let mut found = PrefixMatch::default();
        let mut next = self.roots.get(&scope).copied();
        while let Some(id) = next {
            let node = &self.nodes[&id];
            let start = node.len - node.edge.len();
            let common = common_prefix(&node.edge, &tokens[start..]);
            found.known = start + common;
            if common < node.edge.len() {
                break;
            }
            if node.entry.is_some() && node.len <= limit {
                found.hit = Some((id, node.len));
            }
            next = tokens
                .get(node.len)
                .and_then(|token| node.children.get(token).copied());
        }
        found
    }

    /// The entry of exactly these tokens.
    pub(crate) fn get(&self, scope: Scope, tokens: &[u32]) -> Option<NodeId> {
        let hit = self.find(scope, tokens, tokens.len()).hit?;
        (hit.1 == tokens.len()).then_some(hit.0)
    }

    /// All entries that begin with `tokens`.
    pub(crate) fn beginning_with(&self, scope: Scope, tokens: &[u32]) -> Vec<NodeId> {
        let mut top = self.roots.get(&scope).copied();
        // The first node that has all of these tokens.
        while let Some(node) = top.map(|id| &self.nodes[&id])
            && node.len < tokens.len()
        {
            let child = node.children.get(&tokens[node.len]).copied();
            top = child.filter(|child| {
                let (edge, rest) = (&self.nodes[child].edge, &tokens[node.len..]);
                common_prefix(edge, rest) == edge.len().min(rest.len())
            });
        }
        let (mut found, mut pending) = (Vec::new(), Vec::from_iter(top));
        while let Some(id) = pending.pop() {
            let node = &self.nodes[&id];
            pending.extend(node.children.values());
            found.extend(node.entry.is_some().then_some(id));
        }
        found
    }

    /// Adds an entry; returns the one that these tokens had before.
    pub(crate) fn insert(&mut self, scope: Scope, tokens: &[u32], entry: E) -> (NodeId, Option<E>) {
        let mut id = match self.roots.get(&scope) {
            Some(&root) => root,
            None => {
                let root = self.add(None, scope, Vec::new(), 0);
                self.roots.insert(scope, root);
                root
            }
        };
        loop {
            let len = self.nodes[&id].len;
            let Some(first) = tokens.get(len) else { break };
            let Some(&child) = self.nodes[&id].children.get(first) else {
                let edge = tokens[len..].to_vec();
                self.tokens += edge.len();
                let leaf = self.add(Some(id), scope, edge, tokens.len());
                self.node(id).children.insert(*first, leaf);
                id = leaf;
                break;
            };
            let common = common_prefix(&self.nodes[&child].edge, &tokens[len..]);
            id = match common < self.nodes[&child].edge.len() {
                true => self.split(child, common),
                false => child,
            };
        }
        let before = self.node(id).entry.replace(entry);
        self.entries += usize::from(before.is_none());
        (id, before)
    }

    /// Removes an entry, and the nodes that are there for it alone.
    pub(crate) fn remove(&mut self, id: NodeId) -> Option<E> {
        let entry = self.nodes.get_mut(&id)?.entry.take()?;
        self.entries -= 1;
        self.prune(id);
        Some(entry)
    }

    /// An entry.
    pub(crate) fn entry(&self, id: NodeId) -> Option<&E> {
        self.nodes.get(&id)?.entry.as_ref()
    }

    pub(crate) fn entry_mut(&mut self, id: NodeId) -> Option<&mut E> {
        self.nodes.get_mut(&id)?.entry.as_mut()
    }

    /// All entries, in no order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (NodeId, &E)> {
        let entries = self.nodes.iter();
        entries.filter_map(|(&id, node)| Some((id, node.entry.as_ref()?)))
    }

    /// Tokens of an entry, and of the longest entry that begins them, none being 0.
    pub(crate) fn span(&self, id: NodeId) -> (usize, usize) {
        let parent = self.parent(id).map_or(0, |parent| self.nodes[&parent].len);
        (self.nodes[&id].len, parent)
    }

    /// The longest entry that begins the tokens of this one, without itself.
    pub(crate) fn parent(&self, id: NodeId) -> Option<NodeId> {
        let mut node = &self.nodes[&id];
        loop {
            let id = node.parent?;
            node = &self.nodes[&id];
            if node.entry.is_some() {
                return Some(id);
            }
        }
    }

    /// Whether other entries begin with the tokens of this one.
    pub(crate) fn is_begun(&self, id: NodeId) -> bool {
        !self.nodes[&id].children.is_empty()
    }

    /// The tokens of a node, and its scope.
    #[cfg(test)]
    pub(crate) fn path(&self, id: NodeId) -> (Scope, Vec<u32>) {
        let mut edges = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let node = &self.nodes[&id];
            edges.push(&node.edge[..]);
            next = node.parent;
        }
        edges.reverse();
        (self.nodes[&id].scope, edges.concat())
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) -> Vec<E> {
        let nodes = std::mem::take(&mut self.nodes);
        self.roots.clear();
        (self.entries, self.tokens) = (0, 0);
        nodes.into_values().filter_map(|node| node.entry).collect()
    }

    fn node(&mut self, id: NodeId) -> &mut Node<E> {
        self.nodes
            .get_mut(&id)
            .expect("nodes name those that exist")
    }

    fn add(&mut self, parent: Option<NodeId>, scope: Scope, edge: Vec<u32>, len: usize) -> NodeId {
        let id = NodeId(self.count);
        self.count += 1;
        let node = Node {
            parent,
            scope,
            edge,
            len,
            children: BTreeMap::new(),
            entry: None,
        };
        self.nodes.insert(id, node);
        id
    }

    /// Puts a node into the edge of `child`, behind its first `common` tokens.
    fn split(&mut self, child: NodeId, common: usize) -> NodeId {
        let node = self.node(child);
        let (parent, scope) = (node.parent, node.scope);
        let rest = node.edge.split_off(common);
        let edge = std::mem::replace(&mut node.edge, rest);
        let (first, second) = (edge[0], node.edge[0]);
        let len = node.len - node.edge.len();
        let middle = self.add(parent, scope, edge, len);
        self.node(middle).children.insert(second, child);
        self.node(child).parent = Some(middle);
        if let Some(parent) = parent {
            self.node(parent).children.insert(first, middle);
        }
        middle
    }

    /// Removes a node if nothing needs it, and then what needed to be there for it.
    fn prune(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        if node.entry.is_some() {
            return;
        }
        let (parent, scope) = (node.parent, node.scope);
        let mut children = node.children.values().copied();
        match (children.next(), children.next(), parent) {
            (None, _, None) => {
                self.nodes.remove(&id);
                self.roots.remove(&scope);
            }
            (None, _, Some(parent)) => {
                let edge = self.nodes.remove(&id).map(|node| node.edge);
                let edge = edge.unwrap_or_default();
                self.tokens -= edge.len();
                self.node(parent).children.remove(&edge[0]);
                self.prune(parent);
            }
            (Some(child), None, Some(parent)) => {
                let edge = self.nodes.remove(&id).map(|node| node.edge);
                let mut edge = edge.unwrap_or_default();
                self.node(parent).children.insert(edge[0], child);
                let child = self.node(child);
                child.parent = Some(parent);
                edge.append(&mut child.edge);
                child.edge = edge;
            }
            _ => {}
        }
    }
}

/// How many tokens two sequences begin with alike.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    let alike = a.iter().zip(b).take_while(|(a, b)| a == b);
    alike.count()
}
