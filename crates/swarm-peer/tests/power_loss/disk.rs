//! A disk that may lose whatever was not synced, and no more than that.
//!
//! The bytes of a file are safe once it was synced, a name once its directory was (`fsync(2)`
//! promises no more than that). Of all else any part may have reached the disk, in any order: of
//! bytes some sectors, of names some.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::chance::Chance;
use crate::trace::{Call, Event};

/// Everything that ever happened to files, by what it happened to.
pub(crate) struct Disk {
    /// Files and directories; the first is the root, which was there before.
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    is_dir: bool,
    ops: Vec<Op>,
    /// When each sync began and ended.
    syncs: Vec<(usize, usize)>,
}

struct Op {
    began: usize,
    ended: usize,
    what: What,
}

enum What {
    Write(u64, Vec<u8>),
    Resize(u64),
    Put(String, usize),
    Take(String),
    Move(String, String, usize),
}

/// A file that got its name by a rename.
pub(crate) struct Renamed {
    pub(crate) path: PathBuf,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// When the first of them was written.
    pub(crate) written: usize,
    /// When the sync of its directory ended that followed the rename; none if there was none.
    pub(crate) safe: Option<usize>,
}

/// What is kept of what was not synced.
struct Luck {
    /// Of a hundred sectors, and of a hundred names.
    sectors: u64,
    names: u64,
    sector_len: usize,
    /// Each file and directory keeps what came first.
    in_order: bool,
}

/// Bytes by path; directories have none.
pub(crate) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Disk {
    pub(crate) fn new(events: &[Event], root: &Path) -> (Self, Vec<Renamed>) {
        let mut disk = Self { nodes: Vec::new() };
        let mut live = BTreeMap::new();
        let mut renamed: Vec<Renamed> = Vec::new();
        live.insert(root.to_owned(), disk.add(true));
        for event in events {
            disk.happen(event, &mut live);
            match &event.call {
                Call::Rename(_, path) => {
                    let node = &disk.nodes[live[path]];
                    let Some(first) = node.ops.first() else {
                        continue;
                    };
                    renamed.push(Renamed {
                        path: path.clone(),
                        bytes: node.bytes_by(&node.ops.iter().collect::<Vec<_>>()),
                        written: first.began,
                        safe: None,
                    });
                }
                Call::Sync(dir) => {
                    let unsafe_yet = renamed.iter_mut().filter(|file| file.safe.is_none());
                    for file in unsafe_yet.filter(|file| file.path.parent() == Some(dir)) {
                        file.safe = Some(event.ended);
                    }
                }
                _ => {}
            }
        }
        (disk, renamed)
    }

    fn add(&mut self, is_dir: bool) -> usize {
        self.nodes.push(Node {
            is_dir,
            ..Node::default()
        });
        self.nodes.len() - 1
    }

    fn note(&mut self, event: &Event, node: usize, what: What) {
        self.nodes[node].ops.push(Op {
            began: event.began,
            ended: event.ended,
            what,
        });
    }

    fn happen(&mut self, event: &Event, live: &mut BTreeMap<PathBuf, usize>) {
        match &event.call {
            Call::Write(path, at, bytes) => {
                self.note(event, live[path], What::Write(*at, bytes.clone()));
            }
            Call::Resize(path, len) => self.note(event, live[path], What::Resize(*len)),
            Call::Make(path, true) if live.contains_key(path) => {
                self.note(event, live[path], What::Resize(0));
            }
            Call::Make(path, _) | Call::MakeDir(path) => {
                if !live.contains_key(path) {
                    let node = self.add(matches!(event.call, Call::MakeDir(_)));
                    let (dir, name) = place(live, path);
                    live.insert(path.clone(), node);
                    self.note(event, dir, What::Put(name, node));
                }
            }
            Call::Remove(path) => {
                let (dir, name) = place(live, path);
                live.remove(path).expect("it was there");
                self.note(event, dir, What::Take(name));
            }
            Call::Rename(from, to) => {
                let ((dir, old), (new_dir, new)) = (place(live, from), place(live, to));
                let node = live.remove(from).expect("it was there");
                assert!(dir == new_dir && !self.nodes[node].is_dir, "not modelled");
                live.insert(to.clone(), node);
                self.note(event, dir, What::Move(old, new, node));
            }
            Call::Sync(path) => {
                let node = live[path];
                self.nodes[node].syncs.push((event.began, event.ended));
            }
            Call::Said(_) => {}
        }
    }

    /// What is found when the power fails between that line of the log and the next.
    pub(crate) fn lose_power(&self, after: usize, chance: &mut Chance) -> Tree {
        let share = |chance: &mut Chance| [0, 10, 50, 90, 100][chance.below(5)];
        let luck = Luck {
            sectors: share(chance),
            names: share(chance),
            sector_len: [512, 4096][chance.below(2)],
            in_order: chance.below(3) == 0,
        };
        let mut tree = Tree::new();
        self.find(0, Path::new(""), after, &luck, chance, &mut tree);
        tree
    }

    fn find(
        &self,
        node: usize,
        path: &Path,
        after: usize,
        luck: &Luck,
        chance: &mut Chance,
        tree: &mut Tree,
    ) {
        let node = &self.nodes[node];
        if !node.is_dir {
            tree.insert(path.to_owned(), Some(node.torn_bytes(after, luck, chance)));
            return;
        }
        tree.insert(path.to_owned(), None);
        for (name, node) in node.torn_names(after, luck, chance) {
            self.find(node, &path.join(name), after, luck, chance, tree);
        }
    }
}

fn place(live: &BTreeMap<PathBuf, usize>, path: &Path) -> (usize, String) {
    let dir = path.parent().expect("below the root");
    let name = path.file_name().expect("a name").to_string_lossy();
    (live[dir], name.into_owned())
}

impl Node {
    /// What is safe, and what has been begun besides.
    fn halves(&self, after: usize) -> (Vec<&Op>, Vec<&Op>) {
        let done = self.syncs.iter().filter(|(_, ended)| *ended <= after);
        let synced = done.map(|(began, _)| *began).max().unwrap_or(0);
        let begun = self.ops.iter().filter(|op| op.began <= after);
        begun.partition(|op| op.ended < synced)
    }

    fn torn_names(
        &self,
        after: usize,
        luck: &Luck,
        chance: &mut Chance,
    ) -> BTreeMap<String, usize> {
        let (safe, open) = self.halves(after);
        let first = chance.below(open.len() + 1);
        let kept = open
            .into_iter()
            .enumerate()
            .filter(|(nth, _)| match luck.in_order {
                true => *nth < first,
                false => chance.percent(luck.names),
            });
        let mut names = BTreeMap::new();
        for op in safe.into_iter().chain(kept.map(|(_, op)| op)) {
            match &op.what {
                What::Put(name, node) => {
                    names.insert(name.clone(), *node);
                }
                What::Take(name) => {
                    names.remove(name);
                }
                What::Move(old, new, node) => {
                    names.remove(old);
                    names.insert(new.clone(), *node);
                }
                What::Write(..) | What::Resize(_) => {}
            }
        }
        names
    }

    fn torn_bytes(&self, after: usize, luck: &Luck, chance: &mut Chance) -> Vec<u8> {
        let (safe, open) = self.halves(after);
        let mut bytes = self.bytes_by(&safe);
        let safe_len = bytes.len();
        let all: Vec<&Op> = safe.iter().chain(&open).copied().collect();
        let full_len = self.bytes_by(&all).len();
        let first = chance.below(open.len() + 1);
        for (nth, op) in open.into_iter().enumerate() {
            match &op.what {
                What::Write(at, new) => {
                    let (mut from, end) = (offset(*at), offset(*at) + new.len());
                    bytes.resize(bytes.len().max(end), 0);
                    while from < end {
                        let to = end.min((from / luck.sector_len + 1) * luck.sector_len);
                        let kept = match luck.in_order && nth != first {
                            true => nth < first,
                            false => chance.percent(luck.sectors),
                        };
                        if kept {
                            let part = &new[from - offset(*at)..to - offset(*at)];
                            bytes[from..to].copy_from_slice(part);
                        }
                        from = to;
                    }
                }
                What::Resize(len) if chance.percent(luck.sectors) => bytes.resize(offset(*len), 0),
                _ => {}
            }
        }
        // The length is written down apart from the bytes.
        let (least, most) = (safe_len.min(full_len), safe_len.max(full_len));
        let len = match chance.below(4) {
            0 => safe_len,
            1 => least + chance.below(most - least + 1),
            _ => full_len,
        };
        bytes.resize(len, 0);
        bytes
    }

    fn bytes_by(&self, ops: &[&Op]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for op in ops {
            match &op.what {
                What::Write(at, new) => {
                    let end = offset(*at) + new.len();
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[offset(*at)..end].copy_from_slice(new);
                }
                What::Resize(len) => bytes.resize(offset(*len), 0),
                _ => {}
            }
        }
        bytes
    }
}

fn offset(at: u64) -> usize {
    usize::try_from(at).expect("small files")
}
