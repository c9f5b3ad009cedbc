//! What running tasks hold open in the image store: a capture keeps its chunks from being pruned, a deployment
//! may fetch the chunks of its image and no others.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use farrier_engine::model::TaskId;
use farrier_image::chunk::ChunkId;
use farrier_image::store::{Store, WriterGuard};

use crate::fleet::Fleet;

/// By task; dropped when the task has ended.
#[derive(Default)]
pub struct Holdings {
    writers: Mutex<HashMap<TaskId, WriterGuard>>,
    readers: Mutex<HashMap<TaskId, Arc<HashSet<ChunkId>>>>,
}

impl fmt::Debug for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Holdings")
    }
}

impl Holdings {
    /// Keeps what a capture stores from being pruned until its task has ended.
    pub fn write(&self, task: TaskId, store: &Store, fleet: &Fleet) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if !writers.contains_key(&task) {
            writers.retain(|other, _| fleet.task(*other).is_some());
            writers.insert(task, store.register_writer());
        }
    }

    /// The chunks a task may fetch, once they are known.
    #[must_use]
    pub fn chunks(&self, task: TaskId) -> Option<Arc<HashSet<ChunkId>>> {
        self.readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&task)
            .cloned()
    }

    /// Remembers the chunks a task may fetch.
    pub fn read(&self, task: TaskId, chunks: Arc<HashSet<ChunkId>>, fleet: &Fleet) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|other, _| fleet.task(*other).is_some());
        readers.insert(task, chunks);
    }
}
