//! Per kind, the scores of all nodes below a tree of minima, brought up to date on demand.
//!
//! A placement changes one node. Each change is written into one journal; a kind that asks again
//! scores the nodes that changed since it last asked, each once, and corrects the minima above them.
//! With K kinds of equal use that is 2 K scores a decision whatever the number of nodes; the way from the
//! root to the best node is one line of memory a level, with sixteen children each.

/// The score of a node that cannot take the task.
pub(super) const NO_ROOM: i32 = i32::MAX;

const WAYS: usize = 16;

/// Scores of all nodes for one kind.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// Leaves first; each next level holds the minima of sixteen. All padded with [`NO_ROOM`].
    levels: Vec<Vec<i32>>,
    /// How much of the journal it has seen; `None` before the first filling.
    seen: Option<u64>,
    /// The rule's generation that the scores are of.
    pub(super) generation: u32,
}

impl Tree {
    pub(super) fn new(nodes: usize) -> Self {
        let mut levels = Vec::new();
        let mut width = nodes.max(1);
        loop {
            levels.push(vec![NO_ROOM; width.next_multiple_of(WAYS)]);
            if width <= WAYS {
                break;
            }
            width = width.div_ceil(WAYS);
        }
        Self { levels, seen: None, generation: 0 }
    }

    /// Returns the bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.levels.iter().map(|level| level.len() * size_of::<i32>()).sum()
    }

    /// Scores what changed since the last time; everything when too much did, or the rule did.
    pub(super) fn refresh(
        &mut self,
        journal: &Journal,
        generation: u32,
        mut score: impl FnMut(usize) -> i32,
    ) {
        let missed = self.seen.filter(|_| self.generation == generation);
        match missed.and_then(|seen| journal.since(seen)) {
            Some(changes) => {
                for (at, node) in changes {
                    if journal.is_last(at, node) {
                        self.set(node, score(node));
                    }
                }
            }
            None => self.fill(journal.nodes(), score),
        }
        self.seen = Some(journal.end());
        self.generation = generation;
    }

    fn fill(&mut self, nodes: usize, mut score: impl FnMut(usize) -> i32) {
        for (node, leaf) in self.levels[0].iter_mut().take(nodes).enumerate() {
            *leaf = score(node);
        }
        for level in 1..self.levels.len() {
            let (below, above) = self.levels.split_at_mut(level);
            for (parent, children) in above[0].iter_mut().zip(below[level - 1].chunks_exact(WAYS)) {
                *parent = least(children);
            }
        }
    }

    fn set(&mut self, node: usize, score: i32) {
        let mut at = node;
        let mut value = score;
        for level in 0..self.levels.len() {
            let cells = &mut self.levels[level];
            if cells[at] == value {
                return;
            }
            cells[at] = value;
            at /= WAYS;
            value = least(&cells[at * WAYS..(at + 1) * WAYS]);
        }
    }

    /// Returns the least score of all nodes.
    pub(super) fn least(&self) -> i32 {
        self.levels.last().map_or(NO_ROOM, |top| least(top))
    }

    /// Returns the score of a node.
    pub(super) fn score(&self, node: usize) -> i32 {
        self.levels[0][node]
    }

    /// Returns the first node of the order with the least score, if any has room.
    pub(super) fn first(&self) -> Option<usize> {
        self.first_from(0, self.least())
    }

    /// Returns the first node at or after `start` whose score is at most `limit` and is no refusal.
    pub(super) fn first_from(&self, start: usize, limit: i32) -> Option<usize> {
        if limit == NO_ROOM {
            return None;
        }
        let mut at = start;
        let mut level = 0;
        // Up while the rest of the line holds nothing, then down to the first leaf.
        loop {
            let cells = self.levels.get(level)?;
            let end = ((at / WAYS + 1) * WAYS).min(cells.len());
            let rest = cells.get(at..end)?;
            if let Some(step) = rest.iter().position(|&score| score <= limit) {
                at += step;
                break;
            }
            at = at / WAYS + 1;
            level += 1;
        }
        while level > 0 {
            level -= 1;
            let line = &self.levels[level][at * WAYS..(at + 1) * WAYS];
            at = at * WAYS + line.iter().position(|&score| score <= limit)?;
        }
        Some(at)
    }
}

fn least(scores: &[i32]) -> i32 {
    scores.iter().fold(NO_ROOM, |least, &score| least.min(score))
}

/// The nodes that changed, in order; the newest part of the list.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    ring: Vec<u32>,
    /// For each node the number of its last change.
    last: Vec<u32>,
    end: u64,
}

impl Journal {
    pub(super) fn new(nodes: usize) -> Self {
        let room = (nodes / 2).clamp(64, 1 << 16).next_power_of_two();
        Self { ring: vec![0; room], last: vec![0; nodes], end: 1 }
    }

    pub(super) fn nodes(&self) -> usize {
        self.last.len()
    }

    pub(super) fn bytes(&self) -> usize {
        (self.ring.len() + self.last.len()) * size_of::<u32>()
    }

    fn end(&self) -> u64 {
        self.end
    }

    #[expect(clippy::cast_possible_truncation, reason = "a place in the ring, and a mark that may wrap")]
    pub(super) fn push(&mut self, node: u32) {
        let room = self.ring.len();
        self.ring[self.end as usize & (room - 1)] = node;
        self.last[node as usize] = self.end as u32;
        self.end += 1;
    }

    /// Returns the changes from `seen` on, or `None` when they are no longer known.
    #[expect(clippy::cast_possible_truncation, reason = "a place in the ring")]
    fn since(&self, seen: u64) -> Option<impl Iterator<Item = (u64, usize)>> {
        let room = self.ring.len();
        if self.end - seen > room as u64 {
            return None;
        }
        Some((seen..self.end).map(move |at| (at, self.ring[at as usize & (room - 1)] as usize)))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a mark that may wrap: the ring is shorter")]
    fn is_last(&self, at: u64, node: usize) -> bool {
        self.last[node] == at as u32
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn the_tree_answers_as_a_scan_does() {
        let mut random = Random::new(3);
        for nodes in [1, 15, 16, 17, 255, 257, 5000] {
            let mut scores: Vec<i32> = (0..nodes).map(|_| i32::try_from(random.below(50)).unwrap()).collect();
            let mut journal = Journal::new(nodes);
            let mut tree = Tree::new(nodes);
            for _ in 0..300 {
                for _ in 0..random.below(90) {
                    let node = random.below(nodes);
                    let score = i32::try_from(random.below(60)).unwrap();
                    scores[node] = if score > 50 { NO_ROOM } else { score };
                    journal.push(u32::try_from(node).unwrap());
                }
                tree.refresh(&journal, 0, |node| scores[node]);
                let least = scores.iter().copied().min().unwrap();
                let first = scores.iter().position(|&score| score == least && score != NO_ROOM);
                assert_eq!(tree.first(), first);
                let start = random.below(nodes);
                let next = scores.iter().skip(start).position(|&score| score <= 25).map(|at| at + start);
                assert_eq!(tree.first_from(start, 25), next);
            }
        }
    }
}
