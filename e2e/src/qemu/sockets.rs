//! Where the emulator is reached.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The sockets of one machine. Their paths must fit into 108 bytes, so they are not in the machine's folder.
#[derive(Debug)]
pub(super) struct Sockets {
    folder: PathBuf,
    pub(super) console: PathBuf,
    pub(super) control: PathBuf,
}

impl Sockets {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in folder.join(name).as_os_str().as_encoded_bytes() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let folder = std::env::temp_dir().join(format!("farrier-vm-{hash:016x}"));
        let _ = fs::remove_dir_all(&folder);
        // A folder that cannot be made shows as QEMU's own complaint about the socket.
        let _ = fs::create_dir_all(&folder);
        Self {
            console: folder.join("console"),
            control: folder.join("control"),
            folder,
        }
    }

    pub(super) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
