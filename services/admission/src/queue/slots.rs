//! Numbered places for entries, each of which is in two lists at once: its level's and its lane's.

/// The list of all entries of a level.
pub(super) const LEVEL: usize = 0;
/// The list of a lane.
pub(super) const LANE: usize = 1;

/// First and last of entries that are linked to each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

#[derive(Debug)]
pub(super) struct Slots<E> {
    slots: Vec<Slot<E>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<E> {
    entry: Option<E>,
    /// Counts how often the place was left.
    generation: u32,
    links: [Link; 2],
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

const NONE: u32 = u32::MAX;

impl List {
    pub(super) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(super) const fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// The first; no valid index when the list is empty.
    pub(super) const fn head(&self) -> u32 {
        self.head
    }

    pub(super) const fn tail(&self) -> u32 {
        self.tail
    }
}

impl<E> Slots<E> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn get(&self, index: u32) -> Option<&E> {
        self.slots.get(index as usize)?.entry.as_ref()
    }

    pub(super) fn generation(&self, index: u32) -> u32 {
        self.slots[index as usize].generation
    }

    pub(super) fn insert(&mut self, entry: E) -> u32 {
        if let Some(index) = self.free.pop() {
            self.slots[index as usize].entry = Some(entry);
            return index;
        }
        let links = [Link { before: NONE, after: NONE }; 2];
        self.slots.push(Slot { entry: Some(entry), generation: 0, links });
        self.slots.len() as u32 - 1
    }

    /// The entry must be in no list any more.
    pub(super) fn remove(&mut self, index: u32) -> Option<E> {
        let slot = &mut self.slots[index as usize];
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(entry)
    }

    pub(super) fn push_back<const AXIS: usize>(&mut self, list: &mut List, index: u32) {
        self.slots[index as usize].links[AXIS] = Link { before: list.tail, after: NONE };
        if list.is_empty() {
            list.head = index;
        } else {
            self.slots[list.tail as usize].links[AXIS].after = index;
        }
        list.tail = index;
    }

    pub(super) fn unlink<const AXIS: usize>(&mut self, list: &mut List, index: u32) {
        let Link { before, after } = self.slots[index as usize].links[AXIS];
        if before == NONE {
            list.head = after;
        } else {
            self.slots[before as usize].links[AXIS].after = after;
        }
        if after == NONE {
            list.tail = before;
        } else {
            self.slots[after as usize].links[AXIS].before = before;
        }
    }
}
