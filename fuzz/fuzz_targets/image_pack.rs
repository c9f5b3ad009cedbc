#![no_main]

use farrier_image::chunk::{CHUNK_SIZE, ChunkId, StoredChunk};
use farrier_image::pack;

// A replay gives whole records that lie inside the bytes, and an index of them reads the same.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = pack::read_footer(bytes, bytes.len() as u64);
    if let Ok((entries, end)) = pack::replay(bytes) {
        assert!(end <= bytes.len() as u64);
        let footer = pack::footer(&entries);
        let read = pack::read_footer(&footer, end + footer.len() as u64);
        assert_eq!(read.expect("it was just written"), entries);
    }
    let chunk = StoredChunk {
        id: ChunkId([0; 32]),
        frame: bytes.to_vec().into(),
    };
    let mut plain = Vec::new();
    assert!(chunk.open(&mut plain).is_err());
    assert!(plain.is_empty() && plain.capacity() <= CHUNK_SIZE);
});
