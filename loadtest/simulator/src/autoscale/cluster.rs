//! Nodes: who has room, who has the image, and who adds more of them.

use super::setting::{Setting, Span};
use crate::random::Stream;

/// Where a pod has been put.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) node: usize,
    /// When the image is there.
    pub(super) image_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    up_at: u64,
    used: u32,
    image_at: Option<u64>,
    empty_since: u64,
    gone: bool,
}

#[derive(Debug)]
pub(super) struct Cluster {
    nodes: Vec<Node>,
    setting: Setting,
    chance: Stream,
}

impl Span {
    pub(super) fn draw(self, chance: &mut Stream) -> f64 {
        self.0 + (self.1 - self.0) * chance.share()
    }
}

impl Cluster {
    /// Room for the first pods and the buffer. The pods are spread, so each of these nodes has the image.
    pub(super) fn new(setting: &Setting, seed: u64) -> Self {
        let count = (setting.least + setting.buffer).div_ceil(setting.pods_per_node);
        let node = Node { up_at: 0, used: 0, image_at: Some(0), empty_since: 0, gone: false };
        let chance = Stream::new(seed, 2);
        Self { nodes: vec![node; count as usize], setting: *setting, chance }
    }

    /// For a pod that exists since `now`. `None`: there is no room.
    pub(super) fn place(&mut self, now: u64) -> Option<Place> {
        let per_node = self.setting.pods_per_node;
        let free = self.free(now);
        let here = |node: &&Node| !node.gone && node.up_at <= now && node.used < per_node;
        let (id, _) =
            self.nodes.iter().enumerate().filter(|(_, node)| here(node)).min_by_key(|(_, node)| node.used)?;
        let delays = &self.setting.delays;
        let mut bound = delays.schedule.draw(&mut self.chance);
        // The last of the room is held by pods that make way.
        if free <= self.setting.buffer {
            bound += delays.make_way.draw(&mut self.chance);
        }
        let bound_at = now + bound.round() as u64;
        let pull = delays.pull.draw(&mut self.chance).round() as u64;
        let node = &mut self.nodes[id];
        node.used += 1;
        let image_at = *node.image_at.get_or_insert(bound_at + pull);
        Some(Place { node: id, image_at: image_at.max(bound_at) })
    }

    pub(super) fn leave(&mut self, node: usize, now: u64) {
        let node = &mut self.nodes[node];
        node.used -= 1;
        node.empty_since = now;
    }

    /// As the cluster's autoscaler does it: nodes for pods that have none, and for the buffer that was taken; empty ones go.
    pub(super) fn step(&mut self, now: u64, waiting: u32) {
        let Setting { delays, buffer, pods_per_node, .. } = self.setting;
        if !now.is_multiple_of(delays.node_scan) {
            return;
        }
        let coming = self.nodes.iter().filter(|node| !node.gone && node.up_at > now).count() as u32;
        let room = self.free(now) + coming * pods_per_node;
        let wanted = waiting + buffer;
        for _ in 0..wanted.saturating_sub(room).div_ceil(pods_per_node) {
            let up_at = now + delays.node.draw(&mut self.chance).round() as u64;
            self.nodes.push(Node { up_at, used: 0, image_at: None, empty_since: up_at, gone: false });
        }
        let mut spare = room.saturating_sub(wanted) / pods_per_node;
        for node in self.nodes.iter_mut().rev() {
            let idle = !node.gone && node.used == 0 && node.empty_since + delays.node_unneeded <= now;
            if spare > 0 && idle {
                node.gone = true;
                spare -= 1;
            }
        }
    }

    pub(super) fn nodes(&self) -> u32 {
        self.nodes.iter().filter(|node| !node.gone).count() as u32
    }

    fn free(&self, now: u64) -> u32 {
        let here = self.nodes.iter().filter(|node| !node.gone && node.up_at <= now);
        here.map(|node| self.setting.pods_per_node - node.used).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_there_at_once_and_what_comes_after_it_waits_for_nodes() {
        let setting = Setting::default();
        let mut cluster = Cluster::new(&setting, 1);
        assert_eq!(cluster.nodes(), 7);
        for _ in 0..setting.least + setting.buffer {
            let place = cluster.place(0).unwrap();
            assert!(place.image_at <= 4, "{place:?}");
        }
        assert!(cluster.place(1).is_none());
        // One waits, and the buffer is to be filled again.
        cluster.step(10, 1);
        assert_eq!(cluster.nodes(), 7 + 5);
        cluster.step(20, 1);
        assert_eq!(cluster.nodes(), 7 + 5, "what is on its way is not ordered twice");
        assert!(cluster.place(69).is_none());
        let place = cluster.place(190).unwrap();
        assert!((190 + 11..=190 + 64).contains(&place.image_at), "{place:?}");
    }

    #[test]
    fn empty_nodes_go_after_ten_minutes() {
        let setting = Setting { buffer: 0, ..Setting::default() };
        let mut cluster = Cluster::new(&setting, 1);
        cluster.step(590, 0);
        assert_eq!(cluster.nodes(), 3);
        cluster.step(600, 4);
        assert_eq!(cluster.nodes(), 2, "four wait, two nodes are for them");
    }
}
