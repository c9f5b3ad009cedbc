//! What is remembered of many for a while, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use farrier_engine::WallTime;

/// Notes by key, each with the time it was written.
///
/// A full table forgets what is older than its `age`, and takes nothing new where that frees no place: a flood of
/// invented keys pushes out nobody. Below that nothing is forgotten; who cares for the age of a note looks at it.
#[derive(Debug)]
pub struct Notes<K, V> {
    kept: HashMap<K, Note<V>>,
    max: usize,
    age: Duration,
    swept: Option<WallTime>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Note<V> {
    pub what: V,
    pub at: WallTime,
}

impl<K: Eq + Hash, V> Notes<K, V> {
    #[must_use]
    pub fn new(max: usize, age: Duration) -> Self {
        Self {
            kept: HashMap::new(),
            max,
            age,
            swept: None,
        }
    }

    #[must_use]
    pub fn get(&self, key: &K) -> Option<&Note<V>> {
        self.kept.get(key)
    }

    /// What is no older than the table's age.
    #[must_use]
    pub fn fresh(&self, key: &K, now: WallTime) -> Option<&V> {
        let note = self.kept.get(key)?;
        (now.since(note.at) < self.age).then_some(&note.what)
    }

    /// Writes a note over an older one of the same key.
    pub fn put(&mut self, key: K, what: V, now: WallTime) {
        let note = Note { what, at: now };
        if let Some(before) = self.kept.get_mut(&key) {
            *before = note;
        } else if self.has_room(now) {
            self.kept.insert(key, note);
        }
    }

    /// Changes a note, which begins as the default, and renews its time; nothing where a new one finds no room.
    pub fn update(&mut self, key: K, now: WallTime, change: impl FnOnce(&mut V))
    where
        K: Copy,
        V: Default,
    {
        if !self.kept.contains_key(&key) {
            self.put(key, V::default(), now);
        }
        if let Some(note) = self.kept.get_mut(&key) {
            note.at = now;
            change(&mut note.what);
        }
    }

    /// Changes what is there and leaves its time.
    pub fn amend(&mut self, key: &K, amend: impl FnOnce(&mut V)) {
        if let Some(note) = self.kept.get_mut(key) {
            amend(&mut note.what);
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<Note<V>> {
        self.kept.remove(key)
    }

    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.kept.contains_key(key)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = (&K, &Note<V>)> {
        self.kept.iter()
    }

    fn has_room(&mut self, now: WallTime) -> bool {
        if self.kept.len() < self.max {
            return true;
        }
        // A flood must not cost a walk through the table for each of its packets.
        let swept = self.swept.is_some_and(|at| now.since(at) < SWEEP_EACH);
        if swept {
            return false;
        }
        self.swept = Some(now);
        let age = self.age;
        self.kept.retain(|_, note| now.since(note.at) < age);
        self.kept.len() < self.max
    }
}

const SWEEP_EACH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> WallTime {
        WallTime(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn t10_a_flood_of_invented_keys_pushes_out_nobody() {
        let mut notes = Notes::new(100, AGE);
        for key in 0..1000 {
            notes.put(key, key, at(0));
        }
        assert_eq!(notes.all().count(), 100);
        assert!((0..100).all(|key| notes.fresh(&key, at(59)) == Some(&key)));
        notes.put(5, 50, at(59));
        assert_eq!(
            notes.fresh(&5, at(59)),
            Some(&50),
            "a full table takes what it knows"
        );
    }

    #[test]
    fn a_full_table_forgets_what_is_old_and_nothing_else() {
        let mut notes = Notes::new(2, AGE);
        notes.put("old", 1, at(0));
        notes.put("new", 2, at(30));
        notes.put("newest", 3, at(61));
        assert!(!notes.contains(&"old") && notes.contains(&"new") && notes.contains(&"newest"));
        notes.remove(&"newest");
        assert_eq!(notes.get(&"new").map(|note| note.at), Some(at(30)));
        assert_eq!(
            notes.fresh(&"new", at(91)),
            None,
            "it is kept while there is room"
        );
    }

    #[test]
    fn what_is_amended_is_no_younger_and_what_is_updated_is() {
        let mut notes = Notes::new(2, AGE);
        notes.update(1, at(0), |times| *times += 1);
        notes.amend(&1, |times| *times += 1);
        notes.amend(&2, |times| *times += 1);
        assert_eq!(notes.fresh(&1, at(60)), None);
        notes.update(1, at(60), |times| *times += 1);
        assert_eq!(
            (notes.fresh(&1, at(61)), notes.fresh(&2, at(61))),
            (Some(&3), None)
        );
    }
}
