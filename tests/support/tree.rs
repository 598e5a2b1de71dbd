//! A file tree in memory: directories, links and small files with their mode.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

/// Number of the root directory.
pub(crate) const ROOT: u64 = 1;

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Dir(BTreeMap<String, u64>),
    Link(String),
    File { mode: u16, content: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Path below the root, without a leading slash; empty for the root.
    pub(crate) path: String,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
}

impl Tree {
    /// Creates an empty tree whose nodes are numbered from `first`, so that a number is never used twice
    /// when one tree follows another.
    pub(crate) fn new(first: u64) -> Self {
        let root = Node { path: String::new(), kind: Kind::Dir(BTreeMap::new()) };
        Self { nodes: HashMap::from([(ROOT, root)]), next: first.max(ROOT + 1) }
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    pub(crate) fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number)
    }

    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(ROOT, |at, part| self.child(at, part))
    }

    pub(crate) fn child(&self, dir: u64, name: &str) -> Option<u64> {
        match &self.nodes.get(&dir)?.kind {
            Kind::Dir(children) => children.get(name).copied(),
            Kind::Link(_) | Kind::File { .. } => None,
        }
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.number(path).is_some()
    }

    pub(crate) fn content(&self, path: &str) -> Option<&str> {
        match &self.nodes.get(&self.number(path)?)?.kind {
            Kind::File { content, .. } => Some(content),
            Kind::Dir(_) | Kind::Link(_) => None,
        }
    }

    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        match self.number(path).and_then(|number| self.nodes.get(&number)).map(|node| &node.kind) {
            Some(Kind::Dir(children)) => children.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Makes a directory with all above it.
    pub(crate) fn dir(&mut self, path: &str) {
        if self.number(path).is_none() {
            self.add(path, Kind::Dir(BTreeMap::new()));
        }
    }

    pub(crate) fn file(&mut self, path: &str, mode: u16, content: impl Into<String>) {
        self.add(path, Kind::File { mode, content: content.into() });
    }

    /// Makes a link to another path below the root, written relatively as sysfs does.
    pub(crate) fn link(&mut self, path: &str, to: &str) {
        let up = path.matches('/').count();
        self.add(path, Kind::Link(format!("{}{to}", "../".repeat(up))));
    }

    /// Makes a link with this very text.
    pub(crate) fn raw_link(&mut self, path: &str, text: &str) {
        self.add(path, Kind::Link(text.to_owned()));
    }

    /// Replaces the content of a file that exists.
    pub(crate) fn set(&mut self, path: &str, text: impl Into<String>) {
        let number = self.number(path);
        if let Some(Kind::File { content, .. }) =
            number.and_then(|n| self.nodes.get_mut(&n)).map(|n| &mut n.kind)
        {
            *content = text.into();
        }
    }

    /// Removes what is there, with all below it.
    pub(crate) fn remove(&mut self, path: &str) {
        let Some(number) = self.number(path) else { return };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.number(parent).and_then(|number| self.nodes.get_mut(&number));
        if let Some(Kind::Dir(children)) = parent.map(|node| &mut node.kind) {
            children.remove(name);
        }
        self.forget(number);
    }

    fn forget(&mut self, number: u64) {
        if let Some(Node { kind: Kind::Dir(children), .. }) = self.nodes.remove(&number) {
            children.into_values().for_each(|child| self.forget(child));
        }
    }

    fn add(&mut self, path: &str, kind: Kind) {
        self.remove(path);
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.dir(parent);
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, Node { path: path.to_owned(), kind });
        let parent = self.number(parent).and_then(|parent| self.nodes.get_mut(&parent));
        if let Some(Kind::Dir(children)) = parent.map(|node| &mut node.kind) {
            children.insert(name.to_owned(), number);
        }
    }

    /// Prints the whole tree in the manifest format (see `manifest`), sorted by path.
    pub(crate) fn print(&self) -> String {
        let mut nodes: Vec<&Node> = self.nodes.values().filter(|node| !node.path.is_empty()).collect();
        nodes.sort_by(|a, b| a.path.cmp(&b.path));
        let mut text = String::new();
        for Node { path, kind } in nodes {
            let written = match kind {
                Kind::Dir(_) => writeln!(text, "d {path}"),
                Kind::Link(target) => writeln!(text, "l {path} -> {target}"),
                Kind::File { mode, content } => writeln!(text, "f {path} {mode:04o} {content:?}"),
            };
            written.expect("writing to a string");
        }
        text
    }

    /// Writes the whole tree as plain files below `dir`.
    pub(crate) fn write_to(&self, dir: &Path) {
        let mut nodes: Vec<&Node> = self.nodes.values().collect();
        nodes.sort_by(|a, b| a.path.cmp(&b.path));
        for Node { path, kind } in nodes {
            let at = dir.join(path);
            match kind {
                Kind::Dir(_) if path.is_empty() => std::fs::create_dir_all(&at).expect("directory"),
                Kind::Dir(_) => std::fs::create_dir(&at).expect("directory"),
                Kind::Link(target) => symlink(target, &at).expect("link"),
                Kind::File { mode, content } => {
                    let mut options = std::fs::OpenOptions::new();
                    options.write(true).create_new(true).mode(u32::from(*mode));
                    let mut file = options.open(&at).expect("file");
                    file.write_all(content.as_bytes()).expect("content");
                }
            }
        }
    }
}

/// Writes a plain file, with the directories above it.
pub(crate) fn put(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("directories");
    let mut file = std::fs::File::create(path).expect("file");
    file.write_all(content).expect("content");
}
